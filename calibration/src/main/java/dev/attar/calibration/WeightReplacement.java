package dev.attar.calibration;

import dev.attar.formats.FormatException;
import dev.attar.formats.MappedFile;
import dev.attar.formats.TensorType;
import dev.attar.formats.block.BlockDecoder;
import dev.attar.formats.block.BlockDecoders;
import dev.attar.formats.block.BlockEncoder;
import dev.attar.formats.block.BlockEncoders;
import dev.attar.llama.WeightTensor;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.file.Path;

/** Puts the values that an encoding of a weight stands for into a running model. */
final class WeightReplacement {

  private static final int BAND_VALUES = 1 << 18;

  private WeightReplacement() {}

  /**
   * Decodes a file and writes it into a weight, rounded to the weight's own type.
   *
   * @param weight in F32, F16 or BF16
   * @param type what the file's values are encoded as
   * @param encoded all rows of the tensor
   * @param alive called often
   * @throws IOException if the weight is of another type, or the file cannot be read or has another size
   */
  static void run(WeightTensor weight, TensorType type, Path encoded, Runnable alive) throws IOException {
    TensorType own = TensorType.byId(weight.type()).orElse(null);
    if (own != TensorType.F32 && own != TensorType.F16 && own != TensorType.BF16) {
      throw new IOException(
        "tensor " + weight.name() + ": replaced in a model of type " + own + ", expected F32, F16 or BF16"
      );
    }
    int columns = Math.toIntExact(weight.ne(0));
    long rows = weight.ne(1) * weight.ne(2) * weight.ne(3);
    long rowBytes = type.rowBytes(columns);
    try (MappedFile file = MappedFile.open(encoded); Arena arena = Arena.ofConfined()) {
      if (file.size() != rows * rowBytes) {
        String expected = rows * rowBytes + " for " + weight.name() + " in " + type;
        throw new FormatException(encoded, "size", file.size() + " bytes", expected);
      }
      BlockDecoder decoder = BlockDecoders.of(type);
      BlockEncoder encoder = BlockEncoders.of(own).orElseThrow();
      int band = (int) Math.min(rows, Math.max(1, BAND_VALUES / columns));
      byte[] in = new byte[Math.toIntExact(band * rowBytes)];
      float[] values = new float[Math.multiplyExact(band, columns)];
      byte[] out = new byte[Math.toIntExact(band * own.rowBytes(columns))];
      MemorySegment segment = arena.allocate(out.length, 64);
      for (long row = 0; row < rows; row += band) {
        alive.run();
        int n = (int) Math.min(band, rows - row);
        MemorySegment.copy(file.bytes(), ValueLayout.JAVA_BYTE, row * rowBytes, in, 0, (int) (n * rowBytes));
        decoder.decode(in, 0, values, 0, n * columns);
        encoder.encode(values, 0, columns, n, null, 0, out, 0);
        int bytes = (int) (n * own.rowBytes(columns));
        MemorySegment.copy(out, 0, segment, ValueLayout.JAVA_BYTE, 0, bytes);
        weight.write(row * own.rowBytes(columns), segment.asSlice(0, bytes));
      }
    }
  }
}
