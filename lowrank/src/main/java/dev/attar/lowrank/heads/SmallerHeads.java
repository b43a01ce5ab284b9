package dev.attar.lowrank.heads;

import dev.attar.formats.MappedFile;
import dev.attar.formats.Metadata;
import dev.attar.formats.MetadataValue;
import dev.attar.formats.Model;
import dev.attar.formats.RoundedTensor;
import dev.attar.formats.Tensor;
import dev.attar.formats.TensorInfo;
import dev.attar.formats.TensorType;
import dev.attar.formats.architecture.SizeLabel;
import dev.attar.lowrank.LowRankException;
import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * A model with smaller heads, of the same architecture. Rows are put together as they are asked for, by any thread.
 *
 * <p>What changes keeps its type if that is a plain one, and becomes F16 otherwise. The frequencies of the rotary pairs are in the tensor
 * {@code rope_freqs.weight}, as Llama 3's. {@code attar.lowrank.head_size} says the size before, {@code attar.lowrank.pairs} whose
 * frequencies the pairs have.
 */
public final class SmallerHeads implements Model {

  private static final ValueLayout.OfFloat FLOAT = ValueLayout.JAVA_FLOAT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);
  private static final String OWN = "attar.lowrank.";

  private final Model source;
  private final List<MappedFile> files = new ArrayList<>();
  private final List<Tensor> tensors = new ArrayList<>();
  private final Metadata metadata;

  private SmallerHeads(Model source, HeadResult result) throws IOException {
    this.source = source;
    HeadLayout layout = HeadLayout.of(source);
    layout.require(result.size());
    if (layout.size() != result.before() || result.pairs().size() * 2 != result.size()) {
      throw new LowRankException(
        layout.name() + ": heads of " + layout.size() + " values, expected " + result.before() + ", as were measured"
      );
    }
    try {
      Map<String, Tensor> changed = new HashMap<>();
      for (HeadLayout.Layer layer : layout.layers()) {
        change(layer, result, changed);
      }
      float[] divisors = layout.divisors(result.pairs());
      TensorInfo info = new TensorInfo(HeadLayout.FREQUENCIES, TensorType.F32, new long[] { divisors.length });
      put(changed, new RoundedTensor(info, (_, _, to) -> System.arraycopy(divisors, 0, to, 0, to.length)));
      for (Tensor tensor : source.tensors()) {
        Tensor instead = changed.remove(tensor.info().name());
        tensors.add(instead == null ? tensor : instead);
      }
      // The frequencies, if the model had none of its own.
      tensors.addAll(changed.values());
      metadata = metadata(layout, result);
    } catch (IOException | RuntimeException e) {
      files.forEach(MappedFile::close);
      throw e;
    }
  }

  /**
   * Presents it.
   *
   * @param source the model, which must stay open; closing the result leaves it open
   * @param result what was found for it; its files must stay until the result is closed
   * @throws LowRankException if it was found for a model with other heads
   * @throws IOException if a file cannot be read, or is not of the size that its tensor needs
   */
  public static Model of(Model source, HeadResult result) throws IOException {
    return new SmallerHeads(source, result);
  }

  private void change(HeadLayout.Layer layer, HeadResult result, Map<String, Tensor> changed) throws IOException {
    long queries = (long) layer.heads() * result.size();
    long keys = (long) layer.groups() * result.size();
    long embedding = layer.embedding();
    put(changed, fitted(layer.queries(), result, embedding, queries));
    put(changed, fitted(layer.keys(), result, embedding, keys));
    put(changed, fitted(layer.values(), result, embedding, keys));
    put(changed, fitted(layer.output(), result, queries, embedding));
    if (layer.queryBias() != null) {
      put(changed, fitted(layer.queryBias(), result, queries));
    }
    if (layer.keyBias() != null) {
      put(changed, fitted(layer.keyBias(), result, keys));
    }
    if (layer.valueBias() != null) {
      put(changed, fitted(layer.valueBias(), result, keys));
    }
  }

  private static void put(Map<String, Tensor> changed, Tensor tensor) {
    changed.put(tensor.info().name(), tensor);
  }

  /** New values from a file. */
  private Tensor fitted(Tensor tensor, HeadResult result, long... shape) throws IOException {
    TensorInfo info = new TensorInfo(tensor.info().name(), RoundedTensor.type(tensor.info().type()), shape);
    Path path = result.values().get(info.name());
    if (path == null) {
      throw new LowRankException(source.source() + ": no new values of " + info.name() + " were found");
    }
    MappedFile file = MappedFile.open(path);
    files.add(file);
    long bytes = Float.BYTES * info.elements();
    if (file.size() != bytes) {
      throw new LowRankException(
        path + ": found " + file.size() + " bytes, expected " + bytes + " of " + info.shapeText()
      );
    }
    MemorySegment values = file.bytes();
    long rowBytes = Float.BYTES * info.rowLength();
    return new RoundedTensor(info, (first, _, to) ->
      MemorySegment.copy(values, FLOAT, first * rowBytes, to, 0, to.length)
    );
  }

  private Metadata metadata(HeadLayout layout, HeadResult result) {
    Map<String, MetadataValue> out = new LinkedHashMap<>(source.metadata().values());
    MetadataValue size = MetadataValue.uint32(result.size());
    for (String key : List.of("attention.key_length", "attention.value_length", "rope.dimension_count")) {
      out.put(layout.architecture() + "." + key, size);
    }
    out.computeIfPresent("general.size_label", (_, _) -> MetadataValue.string(SizeLabel.of(tensors)));
    out.put(OWN + "head_size", MetadataValue.int32(result.before()));
    int[] pairs = result.pairs().stream().mapToInt(Integer::intValue).toArray();
    out.put(OWN + "pairs", MetadataValue.int32s(pairs));
    return Metadata.of(out);
  }

  @Override
  public Path source() {
    return source.source();
  }

  @Override
  public List<Path> files() {
    return source.files();
  }

  @Override
  public Metadata metadata() {
    return metadata;
  }

  @Override
  public List<Tensor> tensors() {
    return List.copyOf(tensors);
  }

  /** Unmaps the new values. The source is its owner's. */
  @Override
  public void close() {
    files.forEach(MappedFile::close);
    files.clear();
  }
}
