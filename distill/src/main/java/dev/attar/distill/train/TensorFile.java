package dev.attar.distill.train;

import dev.attar.calibration.linear.MatrixRows;
import dev.attar.compute.Device;
import dev.attar.compute.Matrix;
import dev.attar.formats.FormatException;
import dev.attar.formats.safetensors.ElementType;
import dev.attar.formats.safetensors.SafetensorsFile;
import dev.attar.formats.safetensors.SafetensorsWriter;
import dev.attar.formats.safetensors.StoredTensor;
import java.io.IOException;
import java.io.OutputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;

/** Matrices of a device in a safetensors file, in single precision. */
final class TensorFile {

  /** What the name of a file that is not complete ends with. */
  static final String PART = ".part";

  private TensorFile() {}

  /** Writes a file, whole or not at all. A matrix of one row becomes a vector. */
  static void write(Path file, Device device, Map<String, Matrix> matrices) throws IOException {
    List<SafetensorsWriter.Entry> entries = matrices
      .entrySet()
      .stream()
      .map(entry -> new SafetensorsWriter.Entry(entry.getKey(), ElementType.F32, shape(entry.getValue())))
      .toList();
    Path part = file.resolveSibling(file.getFileName() + PART);
    Files.deleteIfExists(part);
    try (SafetensorsWriter writer = SafetensorsWriter.create(part, entries)) {
      OutputStream out = new OutputStream() {
        @Override
        public void write(int b) throws IOException {
          writer.write(new byte[] { (byte) b }, 0, 1);
        }

        @Override
        public void write(byte[] bytes, int offset, int length) throws IOException {
          writer.write(bytes, offset, length);
        }
      };
      for (SafetensorsWriter.Entry entry : writer.tensors()) {
        MatrixRows.write(device, matrices.get(entry.name()), out);
      }
      writer.finish();
    }
    Files.move(part, file, StandardCopyOption.ATOMIC_MOVE, StandardCopyOption.REPLACE_EXISTING);
  }

  private static List<Long> shape(Matrix matrix) {
    long columns = matrix.columns();
    return matrix.rows() == 1 ? List.of(columns) : List.of((long) matrix.rows(), columns);
  }

  /**
   * Reads a file that {@link #write} wrote.
   *
   * @param matrices all that it must have and nothing else; they get its values
   * @throws FormatException if it is not such a file
   */
  static void read(Path file, Device device, Map<String, Matrix> matrices) throws IOException {
    try (SafetensorsFile stored = SafetensorsFile.open(file)) {
      Map<String, StoredTensor> tensors = new HashMap<>();
      stored.tensors().forEach(tensor -> tensors.put(tensor.name(), tensor));
      Set<String> unknown = new TreeSet<>(tensors.keySet());
      unknown.removeAll(matrices.keySet());
      if (!unknown.isEmpty()) {
        throw new FormatException(file, "tensors", unknown.iterator().next(), "only what is trained");
      }
      // All is checked before anything is changed.
      for (Map.Entry<String, Matrix> entry : matrices.entrySet()) {
        check(file, entry.getKey(), tensors.get(entry.getKey()), shape(entry.getValue()));
      }
      matrices.forEach((name, matrix) -> device.upload(tensors.get(name).bytes(), matrix));
    }
  }

  private static void check(Path file, String name, StoredTensor tensor, List<Long> shape) throws FormatException {
    String place = "tensor " + name;
    String expected = "F32 " + shape;
    if (tensor == null) {
      throw new FormatException(file, place, "nothing", expected);
    }
    String found = tensor.type() + " " + tensor.shapeText();
    if (!found.equals(expected)) {
      throw new FormatException(file, place, found, expected);
    }
  }
}
