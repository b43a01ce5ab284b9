package dev.attar.quant;

import dev.attar.formats.Metadata;
import dev.attar.formats.MetadataValue;
import dev.attar.formats.Model;
import dev.attar.formats.Tensor;
import dev.attar.formats.TensorInfo;
import dev.attar.formats.TensorType;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** A model of which only names, shapes and metadata exist: for plans, which read no weights. */
record HeaderModel(Path source, Metadata metadata, List<Tensor> tensors) implements Model {
  /** Builds a model step by step. */
  static final class Builder {

    private final Map<String, MetadataValue> metadata = new LinkedHashMap<>();
    private final List<Tensor> tensors = new ArrayList<>();

    Builder(String architecture) {
      metadata.put("general.architecture", MetadataValue.string(architecture));
    }

    Builder with(String key, MetadataValue value) {
      metadata.put(key, value);
      return this;
    }

    Builder tensor(String name, TensorType type, long... shape) {
      tensors.add(new HeaderTensor(new TensorInfo(name, type, shape)));
      return this;
    }

    HeaderModel build() {
      return new HeaderModel(Path.of("model.gguf"), Metadata.of(metadata), List.copyOf(tensors));
    }
  }

  private record HeaderTensor(TensorInfo info) implements Tensor {
    @Override
    public void readRows(long firstRow, int rows, byte[] out, int outOffset) {
      throw new AssertionError("a plan reads no weights");
    }

    @Override
    public void decodeRows(long firstRow, int rows, float[] out, int outOffset) {
      throw new AssertionError("a plan reads no weights");
    }
  }

  @Override
  public List<Path> files() {
    return List.of(source);
  }

  @Override
  public void close() {}
}
