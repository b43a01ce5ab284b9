package dev.attar.cli;

import dev.attar.formats.Metadata;
import dev.attar.formats.MetadataValue;
import dev.attar.formats.Model;
import dev.attar.formats.Tensor;
import dev.attar.formats.TensorInfo;
import dev.attar.formats.TensorType;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/**
 * The shapes of a model with smaller heads, before it is made: its values are never read. Closing it leaves the model open.
 *
 * @param model the model
 * @param before the size of its heads
 * @param size what it becomes
 */
record HeadShapes(Model model, int before, int size) implements Model {
  private static final Pattern CHANGED = Pattern.compile("blk\\.\\d+\\.attn_(q|k|v|output)\\.(weight|bias)");

  private record Shape(TensorInfo info) implements Tensor {
    @Override
    public void readRows(long firstRow, int rows, byte[] out, int outOffset) {
      throw new UnsupportedOperationException();
    }

    @Override
    public void decodeRows(long firstRow, int rows, float[] out, int outOffset) {
      throw new UnsupportedOperationException();
    }
  }

  @Override
  public Path source() {
    return model.source();
  }

  @Override
  public List<Path> files() {
    return model.files();
  }

  @Override
  public Metadata metadata() {
    Metadata metadata = model.metadata();
    for (String key : List.of("attention.key_length", "attention.value_length", "rope.dimension_count")) {
      metadata = metadata.with(metadata.architecture() + "." + key, MetadataValue.uint32(size));
    }
    return metadata
      .with("attar.lowrank.head_size", MetadataValue.int32(before))
      .with("attar.lowrank.pairs", MetadataValue.int32s(new int[size / 2]));
  }

  @Override
  public List<Tensor> tensors() {
    List<Tensor> tensors = new ArrayList<>();
    for (Tensor tensor : model.tensors()) {
      if (!tensor.info().name().equals("rope_freqs.weight")) {
        tensors.add(shaped(tensor));
      }
    }
    tensors.add(new Shape(new TensorInfo("rope_freqs.weight", TensorType.F32, new long[] { size / 2 })));
    return tensors;
  }

  private Tensor shaped(Tensor tensor) {
    TensorInfo info = tensor.info();
    Matcher matcher = CHANGED.matcher(info.name());
    if (!matcher.matches()) {
      return tensor;
    }
    boolean output = matcher.group(1).equals("output");
    if (output && info.rank() == 1) {
      return tensor; // a bias of the residual stream
    }
    long[] shape = info.shape().clone();
    int heads = output ? 0 : info.rank() - 1; // the dimension that counts their values
    shape[heads] = (shape[heads] / before) * size;
    return new Shape(new TensorInfo(info.name(), info.type().isQuantized() ? TensorType.F16 : info.type(), shape));
  }

  @Override
  public void close() {
    // The model is its owner's.
  }
}
