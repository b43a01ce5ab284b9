package dev.attar.llama;

import static java.lang.foreign.ValueLayout.ADDRESS;
import static java.lang.foreign.ValueLayout.JAVA_BOOLEAN;
import static java.lang.foreign.ValueLayout.JAVA_BYTE;
import static java.lang.foreign.ValueLayout.JAVA_FLOAT;
import static java.lang.foreign.ValueLayout.JAVA_INT;
import static java.lang.foreign.ValueLayout.JAVA_LONG;

import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.Linker;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.SegmentAllocator;
import java.lang.invoke.MethodHandle;
import java.util.Objects;
import java.util.Set;

/**
 * ggml's own encoders and decoders of tensor rows. Types are given by their ggml numbers. Safe for use by several threads.
 *
 * <p>A failed {@code GGML_ASSERT} ends the process, so the arguments are checked here against everything that the encoders
 * assert: the type is one that they write, row lengths are multiples of its block size, buffers are long enough, and importance
 * weights are there where the type cannot do without. IQ1_S, IQ1_M, IQ2_XXS, IQ2_XS, IQ2_S, IQ3_XXS and IQ3_S also assert on the
 * results of their arithmetic. These fail on NaN, on infinities, on values whose squares overflow, and on importance below
 * zero; for these types every value is therefore checked too: |x| at most {@value #LARGEST} (above it the blocks' half-precision
 * scales would overflow), importance from 0 to {@value #LARGEST}. The other types write blocks without meaning for NaN and
 * infinities; callers who want an error look for them before.
 */
public final class Ggml {

  /** The number of types, {@code GGML_TYPE_COUNT}. */
  static final int TYPES = 43;

  /** The largest magnitude of a value or an importance weight that the asserting types are given. */
  static final float LARGEST = 1e9f;

  private static final long TRAITS_TO_FLOAT = 40; // ggml_type_traits: name, 2 block sizes, type size, is_quantized, to_float

  // Values encoded at once from a Java array: enough to make the call's own cost small, little enough to stay in the cache.
  private static final int CHUNK = 16 * 1024;

  // Q8_1, Q8_K, I8 to I64 and F64, for which ggml_quantize_chunk has no case. For the IQ types it makes the tables that they
  // need at first use, under a lock of its own; IQ1_S's and IQ1_M's take seconds.
  private static final Set<Integer> NOT_WRITTEN = Set.of(9, 15, 24, 25, 26, 27, 28);

  // IQ2_XXS, IQ2_XS, IQ3_XXS, IQ1_S, IQ3_S, IQ2_S, IQ1_M
  private static final Set<Integer> ASSERTING = Set.of(16, 17, 18, 19, 21, 22, 29);

  private final MethodHandle quantizeChunk;
  private final MethodHandle validateRowData;
  private final MethodHandle decode;
  private final String[] names = new String[TYPES];
  private final int[] blockSizes = new int[TYPES];
  private final int[] blockBytes = new int[TYPES];
  private final boolean[] needsImportance = new boolean[TYPES];
  private final MemorySegment[] decoders = new MemorySegment[TYPES];

  private Ggml(LlamaLibrary library) {
    quantizeChunk = library.function(
      "ggml_quantize_chunk",
      FunctionDescriptor.of(JAVA_LONG, JAVA_INT, ADDRESS, ADDRESS, JAVA_LONG, JAVA_LONG, JAVA_LONG, ADDRESS)
    );
    validateRowData = library.function(
      "ggml_validate_row_data",
      FunctionDescriptor.of(JAVA_BOOLEAN, JAVA_INT, ADDRESS, JAVA_LONG)
    );
    decode = Linker.nativeLinker().downcallHandle(FunctionDescriptor.ofVoid(ADDRESS, ADDRESS, JAVA_LONG));
    MethodHandle typeName = library.function("ggml_type_name", FunctionDescriptor.of(ADDRESS, JAVA_INT));
    MethodHandle blockSize = library.function("ggml_blck_size", FunctionDescriptor.of(JAVA_LONG, JAVA_INT));
    MethodHandle typeSize = library.function("ggml_type_size", FunctionDescriptor.of(JAVA_LONG, JAVA_INT));
    MethodHandle traits = library.function("ggml_get_type_traits", FunctionDescriptor.of(ADDRESS, JAVA_INT));
    MethodHandle requiresImatrix = library.function(
      "ggml_quantize_requires_imatrix",
      FunctionDescriptor.of(JAVA_BOOLEAN, JAVA_INT)
    );
    Natives.run(() -> {
      for (int type = 0; type < TYPES; type++) {
        MemorySegment name = (MemorySegment) typeName.invokeExact(type);
        names[type] = name.equals(MemorySegment.NULL) ? "?" : Natives.string(name);
        blockSizes[type] = Math.toIntExact((long) blockSize.invokeExact(type));
        blockBytes[type] = Math.toIntExact((long) typeSize.invokeExact(type));
        needsImportance[type] = (boolean) requiresImatrix.invokeExact(type);
        MemorySegment toFloat = ((MemorySegment) traits.invokeExact(type)).reinterpret(
          TRAITS_TO_FLOAT + ADDRESS.byteSize()
        ).get(ADDRESS, TRAITS_TO_FLOAT);
        if (!toFloat.equals(MemorySegment.NULL)) {
          decoders[type] = toFloat;
        }
      }
    });
  }

  private static final class Holder {

    private static Ggml instance;

    private Holder() {}

    static synchronized Ggml get() throws IOException {
      if (instance == null) {
        instance = new Ggml(LlamaLibrary.load());
      }
      return instance;
    }
  }

  /**
   * Binds the functions, once per process.
   *
   * @throws IOException if llama.cpp's libraries cannot be loaded
   */
  public static Ggml load() throws IOException {
    return Holder.get();
  }

  /** ggml's name of a type, for example {@code q4_K}. */
  public String typeName(int type) {
    return names[known(type)];
  }

  /** Values per block. */
  public int blockSize(int type) {
    return blockSizes[known(type)];
  }

  /**
   * Bytes of an encoded row.
   *
   * @throws IllegalArgumentException if the row is not made of whole blocks
   */
  public long rowBytes(int type, long rowLength) {
    int size = blockSizes[known(type)];
    if (rowLength <= 0 || rowLength % size != 0) {
      throw new IllegalArgumentException(
        names[type] + ": a row of " + rowLength + " values, expected a positive multiple of " + size
      );
    }
    return Math.multiplyExact(rowLength / size, blockBytes[type]);
  }

  /** Whether a type can be encoded with importance weights only. */
  public boolean requiresImportance(int type) {
    return needsImportance[known(type)];
  }

  /**
   * Encodes rows, as {@code ggml_quantize_chunk} does.
   *
   * @param type ggml number of the type to write
   * @param x {@code rows * rowLength} values
   * @param rows number of rows
   * @param rowLength values per row
   * @param importance {@code rowLength} weights, or {@code null}
   * @param bytes size of the result
   * @throws IllegalArgumentException if the library would not take the arguments
   */
  public byte[] quantize(int type, float[] x, int rows, int rowLength, float[] importance, int bytes) {
    if (rows < 0 || bytes != Math.multiplyExact(rowBytes(type, rowLength), rows)) {
      throw new IllegalArgumentException(
        names[type] + ": room for " + bytes + " bytes, expected " + rowBytes(type, rowLength) * rows
      );
    }
    byte[] out = new byte[bytes];
    quantize(type, x, 0, rowLength, rows, importance, 0, out, 0);
    return out;
  }

  /**
   * Encodes rows from and into arrays, as {@code ggml_quantize_chunk} does. The values pass through a small native buffer a few
   * rows at a time: a native call on the arrays themselves would hold up every garbage collection while it runs.
   *
   * @param type ggml number of the type to write
   * @param x values, row after row
   * @param xOffset index of the first
   * @param rowLength values per row
   * @param rows number of rows
   * @param importance weights of the values of a row, or {@code null}
   * @param importanceOffset index of the first weight
   * @param out receives {@code rows * rowBytes(type, rowLength)} bytes
   * @param outOffset index of the first
   * @throws IllegalArgumentException if the library would not take the arguments
   * @throws IndexOutOfBoundsException if an array is too short
   */
  public void quantize(
    int type,
    float[] x,
    int xOffset,
    int rowLength,
    int rows,
    float[] importance,
    int importanceOffset,
    byte[] out,
    int outOffset
  ) {
    long rowBytes = checkEncoding(type, rowLength, rows, importance != null);
    Objects.checkFromIndexSize((long) xOffset, (long) rows * rowLength, x.length);
    Objects.checkFromIndexSize((long) outOffset, rows * rowBytes, out.length);
    MemorySegment values = MemorySegment.ofArray(x);
    checkValues(type, values.asSlice(4L * xOffset, 4L * rows * rowLength), -LARGEST, "value");
    if (importance != null) {
      Objects.checkFromIndexSize(importanceOffset, rowLength, importance.length);
      checkValues(
        type,
        MemorySegment.ofArray(importance).asSlice(4L * importanceOffset, 4L * rowLength),
        0,
        "importance"
      );
    }
    int step = Math.clamp(CHUNK / rowLength, 1, Math.max(1, rows));
    try (Arena arena = Arena.ofConfined()) {
      MemorySegment in = arena.allocate(4L * step * rowLength, 64);
      MemorySegment blocks = arena.allocate(step * rowBytes, 64);
      MemorySegment weights = MemorySegment.NULL;
      if (importance != null) {
        weights = arena.allocate(4L * rowLength, 64);
        MemorySegment.copy(importance, importanceOffset, weights, JAVA_FLOAT, 0, rowLength);
      }
      for (int row = 0; row < rows; row += step) {
        int n = Math.min(step, rows - row);
        MemorySegment.copy(x, xOffset + row * rowLength, in, JAVA_FLOAT, 0, n * rowLength);
        encode(type, in, rowLength, n, weights, blocks, n * rowBytes);
        MemorySegment.copy(
          blocks,
          JAVA_BYTE,
          0,
          out,
          Math.toIntExact(outOffset + row * rowBytes),
          (int) (n * rowBytes)
        );
      }
    }
  }

  /**
   * Encodes rows in native memory without a copy, as {@code ggml_quantize_chunk} does.
   *
   * @param type ggml number of the type to write
   * @param x {@code rows * rowLength} floats, 4-byte aligned
   * @param rowLength values per row
   * @param rows number of rows
   * @param importance {@code rowLength} floats, or {@code null}
   * @param out receives {@code rows * rowBytes(type, rowLength)} bytes
   * @throws IllegalArgumentException if the library would not take the arguments, or if a segment lies on the Java heap
   * @throws IndexOutOfBoundsException if a segment is too short
   */
  public void quantize(
    int type,
    MemorySegment x,
    long rowLength,
    long rows,
    MemorySegment importance,
    MemorySegment out
  ) {
    long bytes = Math.multiplyExact(checkEncoding(type, rowLength, rows, importance != null), rows);
    MemorySegment in = x.asSlice(0, Math.multiplyExact(4, Math.multiplyExact(rows, rowLength)), 4);
    checkValues(type, in, -LARGEST, "value");
    MemorySegment weights = MemorySegment.NULL;
    if (importance != null) {
      weights = importance.asSlice(0, 4 * rowLength, 4);
      checkValues(type, weights, 0, "importance");
    }
    if (rows > 0) {
      encode(type, in, rowLength, rows, weights, out.asSlice(0, bytes), bytes);
    }
  }

  private void encode(
    int type,
    MemorySegment x,
    long rowLength,
    long rows,
    MemorySegment importance,
    MemorySegment out,
    long bytes
  ) {
    long written = Natives.call(() -> (long) quantizeChunk.invokeExact(type, x, out, 0L, rows, rowLength, importance));
    if (written != bytes) {
      throw new IllegalStateException("ggml_quantize_chunk wrote " + written + " bytes, expected " + bytes);
    }
  }

  private long checkEncoding(int type, long rowLength, long rows, boolean importance) {
    long bytes = rowBytes(type, rowLength);
    if (NOT_WRITTEN.contains(type)) {
      throw new IllegalArgumentException("ggml does not write " + names[type]);
    }
    if (rows < 0) {
      throw new IllegalArgumentException(rows + " rows");
    }
    if (!importance && needsImportance[type]) {
      throw new IllegalArgumentException(names[type] + " cannot be encoded without importance weights");
    }
    return bytes;
  }

  private void checkValues(int type, MemorySegment values, float least, String what) {
    if (ASSERTING.contains(type)) {
      long n = values.byteSize() / 4;
      for (long i = 0; i < n; i++) {
        float value = values.getAtIndex(JAVA_FLOAT, i);
        if (!(value >= least && value <= LARGEST)) {
          throw new IllegalArgumentException(
            names[type] + ": " + what + " " + i + " is " + value + ", expected " + least + " to " + LARGEST
          );
        }
      }
    }
  }

  /**
   * Decodes consecutive blocks, as the {@code to_float} function of the type's traits does.
   *
   * @param type ggml number of a quantized type, F16 or BF16
   * @param in the blocks
   * @param count number of values
   * @throws IllegalArgumentException if the type has no decoder, or if {@code in} does not hold {@code count} values
   */
  public float[] dequantize(int type, byte[] in, int count) {
    if (decoders[known(type)] == null) {
      throw new IllegalArgumentException("ggml does not decode " + names[type]);
    }
    long bytes = rowBytes(type, count);
    if (in.length < bytes) {
      throw new IllegalArgumentException(names[type] + ": " + in.length + " bytes, expected " + bytes);
    }
    MemorySegment decoder = decoders[type];
    try (Arena arena = Arena.ofConfined()) {
      MemorySegment blocks = arena.allocate(bytes, 64).copyFrom(MemorySegment.ofArray(in).asSlice(0, bytes));
      MemorySegment out = arena.allocate(4L * count, 64);
      Natives.run(() -> {
        decode.invokeExact(decoder, blocks, out, (long) count);
      });
      return out.toArray(JAVA_FLOAT);
    }
  }

  /**
   * Looks for scales that are NaN or infinite, and for NaN and infinite values in the plain types, as
   * {@code ggml_validate_row_data} does. The library writes what it finds to the process's standard error.
   *
   * @param type ggml number
   * @param data whole blocks
   * @return whether the data is sound
   */
  public boolean validateRow(int type, byte[] data) {
    int size = blockBytes[known(type)];
    if (data.length % size != 0) {
      throw new IllegalArgumentException(names[type] + ": " + data.length + " bytes, expected a multiple of " + size);
    }
    try (Arena arena = Arena.ofConfined()) {
      MemorySegment blocks = ((SegmentAllocator) arena).allocateFrom(JAVA_BYTE, data);
      return Natives.call(() -> (boolean) validateRowData.invokeExact(type, blocks, (long) data.length));
    }
  }

  private int known(int type) {
    if (type < 0 || type >= TYPES || blockSizes[type] <= 0) {
      throw new IllegalArgumentException("type number " + type + " is none of ggml's");
    }
    return type;
  }
}
