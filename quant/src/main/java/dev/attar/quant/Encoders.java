package dev.attar.quant;

import dev.attar.formats.TensorType;
import dev.attar.formats.block.BlockEncoder;
import dev.attar.formats.block.BlockEncoders;
import dev.attar.llama.Ggml;
import java.io.IOException;
import java.util.Arrays;
import java.util.EnumMap;
import java.util.List;
import java.util.Map;
import java.util.Set;

/** The encoder of each tensor type: in Java where there is one, llama.cpp's library for the rest. */
public final class Encoders {

  private final Map<TensorType, BlockEncoder> encoders = new EnumMap<>(TensorType.class);

  /**
   * Finds the encoders of these types.
   *
   * @throws IOException if a type needs llama.cpp's library and there is none, or it cannot be written at all
   */
  public Encoders(Set<TensorType> types) throws IOException {
    for (TensorType type : types) {
      if (!isWritable(type)) {
        throw new QuantizationException("tensors of type " + type + " cannot be written");
      }
      encoders.put(type, inJava(type) ? BlockEncoders.of(type).orElseThrow() : ofLibrary(type));
    }
  }

  /** The encoder of one of the types that were asked for. */
  public BlockEncoder of(TensorType type) {
    return encoders.get(type);
  }

  /** Whether tensors can be encoded as this type: not for integers, and not for the two types of intermediate results. */
  public static boolean isWritable(TensorType type) {
    return switch (type) {
      case Q8_1, Q8_K, F64, I8, I16, I32, I64 -> false;
      default -> true;
    };
  }

  /** Whether this type is encoded without llama.cpp's library. */
  static boolean inJava(TensorType type) {
    return BlockEncoders.of(type).isPresent();
  }

  private static BlockEncoder ofLibrary(TensorType type) throws IOException {
    Ggml ggml;
    try {
      ggml = Ggml.load();
    } catch (IOException e) {
      List<TensorType> without = Arrays.stream(TensorType.values())
        .filter(t -> isWritable(t) && inJava(t))
        .toList();
      throw new QuantizationException(
        type +
          " is written by llama.cpp's library, which is missing (" +
          e.getMessage() +
          "); types that need none: " +
          without,
        e
      );
    }
    return new LibraryEncoder(ggml, type);
  }

  private record LibraryEncoder(Ggml ggml, TensorType type) implements BlockEncoder {
    @Override
    public void encode(
      float[] x,
      int xOffset,
      int rowLength,
      int rows,
      float[] importance,
      int importanceOffset,
      byte[] out,
      int outOffset
    ) {
      ggml.quantize(type.id(), x, xOffset, rowLength, rows, importance, importanceOffset, out, outOffset);
    }
  }
}
