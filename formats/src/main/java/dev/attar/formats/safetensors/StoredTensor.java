package dev.attar.formats.safetensors;

import java.lang.foreign.MemorySegment;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.stream.Collectors;

/**
 * A tensor as it lies in a safetensors file.
 *
 * @param file the file
 * @param name its name there
 * @param type the type of its values
 * @param shape its dimensions in PyTorch's order, outermost first; empty for a single value; not to be changed
 * @param bytes its values in row-major order, little-endian; valid until the checkpoint is closed
 */
@SuppressWarnings("ArrayRecordComponent")
public record StoredTensor(Path file, String name, ElementType type, long[] shape, MemorySegment bytes) {
  /** The shape as Python prints it, {@code [1024, 4096]}. */
  public String shapeText() {
    return shapeText(shape);
  }

  /** A shape as Python prints it, {@code [1024, 4096]}. */
  public static String shapeText(long[] shape) {
    return Arrays.stream(shape).mapToObj(Long::toString).collect(Collectors.joining(", ", "[", "]"));
  }

  @Override
  public boolean equals(Object other) {
    return other instanceof StoredTensor that && file.equals(that.file) && name.equals(that.name);
  }

  @Override
  public int hashCode() {
    return 31 * file.hashCode() + name.hashCode();
  }

  @Override
  public String toString() {
    return name + " " + type + " " + shapeText();
  }
}
