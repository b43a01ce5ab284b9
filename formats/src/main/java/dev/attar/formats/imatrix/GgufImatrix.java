package dev.attar.formats.imatrix;

import dev.attar.formats.FormatException;
import dev.attar.formats.MappedTensor;
import dev.attar.formats.Metadata;
import dev.attar.formats.MetadataValue;
import dev.attar.formats.TensorType;
import dev.attar.formats.Utf8;
import dev.attar.formats.gguf.GgufModel;
import dev.attar.formats.imatrix.ImportanceMatrix.Entry;
import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * The GGUF form of an importance matrix: for each tensor of the model two single-precision tensors, {@code <name>.in_sum2} of shape
 * {columns, experts} and {@code <name>.counts} of shape {1, experts}, and the metadata keys {@code imatrix.*}.
 */
final class GgufImatrix {

  static final String SUMS = ".in_sum2";
  static final String COUNTS = ".counts";
  static final String DATASETS = "imatrix.datasets";
  static final String CHUNK_COUNT = "imatrix.chunk_count";
  static final String CHUNK_SIZE = "imatrix.chunk_size";
  private static final int MAX_EXPERTS = 1 << 16;
  private static final float MAX_COUNT = 0x1p62f;

  private GgufImatrix() {}

  static ImportanceMatrix read(Path path) throws IOException {
    GgufModel model = GgufModel.open(path);
    try {
      return read(path, model);
    } catch (IOException | RuntimeException e) {
      model.close();
      throw e;
    }
  }

  private static ImportanceMatrix read(Path path, GgufModel model) throws FormatException {
    Metadata metadata = model.metadata();
    MetadataValue type = metadata.get("general.type").orElse(MetadataValue.string("imatrix"));
    if (!type.value().equals("imatrix")) {
      throw new FormatException(path, "key general.type", Utf8.quote(type.toString()), "'imatrix'");
    }
    for (String key : List.of(DATASETS, CHUNK_COUNT, CHUNK_SIZE)) {
      if (metadata.get(key).isEmpty()) {
        throw new FormatException(path, "no metadata key " + key + ", expected an importance matrix");
      }
    }
    int chunks = Math.max(0, (int) number(path, metadata, CHUNK_COUNT)); // llama-quantize takes it for a signed number
    number(path, metadata, CHUNK_SIZE);
    boolean named = metadata.values().get(DATASETS).value() instanceof String[];
    List<String> datasets = named ? List.of((String[]) metadata.values().get(DATASETS).value()) : List.of();
    return new ImportanceMatrix(model::close, path, false, entries(path, model), datasets, chunks);
  }

  private static long number(Path path, Metadata metadata, String key) throws FormatException {
    MetadataValue value = metadata.values().get(key);
    if (value.type() != MetadataValue.Type.UINT32) {
      throw new FormatException(path, "key " + key, "a value of type " + value.type(), "UINT32");
    }
    return (long) value.value();
  }

  private static Map<String, Entry> entries(Path path, GgufModel model) throws FormatException {
    Map<String, MappedTensor> sums = new LinkedHashMap<>();
    Map<String, MappedTensor> counts = new LinkedHashMap<>();
    for (MappedTensor tensor : model.tensors()) {
      String name = tensor.info().name();
      Map<String, MappedTensor> kind = name.endsWith(SUMS) ? sums : name.endsWith(COUNTS) ? counts : null;
      if (kind == null) {
        continue;
      }
      if (tensor.info().type() != TensorType.F32) {
        throw new FormatException(path, "tensor " + Utf8.quote(name), "type " + tensor.info().type(), "F32");
      }
      kind.put(name.substring(0, name.lastIndexOf('.')), tensor);
    }
    for (String name : counts.keySet()) {
      if (!sums.containsKey(name)) {
        throw new FormatException(path, "tensor " + Utf8.quote(name + COUNTS) + " without " + Utf8.quote(name + SUMS));
      }
    }
    if (sums.isEmpty()) {
      throw new FormatException(path, "no tensor named *" + SUMS + ", expected an importance matrix");
    }
    Map<String, Entry> entries = new LinkedHashMap<>();
    for (Map.Entry<String, MappedTensor> sum : sums.entrySet()) {
      String name = sum.getKey();
      MappedTensor count = counts.get(name);
      if (count == null) {
        throw new FormatException(path, "tensor " + Utf8.quote(name + SUMS) + " without " + Utf8.quote(name + COUNTS));
      }
      ImportanceMatrix.checkSums(path, name + SUMS, sum.getValue().bytes());
      entries.put(name, new Entry(sum.getValue().bytes(), counts(path, sum.getValue(), count)));
    }
    return entries;
  }

  private static long[] counts(Path path, MappedTensor sums, MappedTensor counts) throws FormatException {
    String place = "tensor " + Utf8.quote(counts.info().name());
    long experts = counts.info().elements();
    if (experts > MAX_EXPERTS || sums.info().elements() % experts != 0) {
      String expected =
        "at most " + MAX_EXPERTS + " and a divisor of " + sums.info().elements() + ", the number of sums";
      throw new FormatException(path, place, experts + " counts", expected);
    }
    MemorySegment values = counts.bytes();
    long[] rounded = new long[(int) experts];
    for (int i = 0; i < rounded.length; i++) {
      float count = values.get(ImportanceMatrix.FLOAT, (long) i * Float.BYTES);
      if (!(count >= 0 && count <= MAX_COUNT)) {
        throw new FormatException(path, place + ", count " + i, String.valueOf(count), "a finite number, not negative");
      }
      rounded[i] = (long) Math.floor(count + 0.5); // in double precision, where it is exact
    }
    return rounded;
  }
}
