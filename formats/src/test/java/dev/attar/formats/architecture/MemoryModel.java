package dev.attar.formats.architecture;

import dev.attar.formats.Metadata;
import dev.attar.formats.MetadataValue;
import dev.attar.formats.Model;
import dev.attar.formats.Tensor;
import dev.attar.formats.TensorInfo;
import dev.attar.formats.TensorType;
import dev.attar.formats.block.BlockDecoders;
import dev.attar.formats.block.BlockEncoders;
import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.function.Predicate;
import java.util.function.UnaryOperator;

/** A model in memory that can be changed. */
record MemoryModel(Path source, Metadata metadata, List<Content> tensors) implements Model {
  /** A tensor in memory. */
  @SuppressWarnings("ArrayRecordComponent")
  record Content(TensorInfo info, byte[] bytes) implements Tensor {
    static Content of(Tensor tensor) throws IOException {
      byte[] bytes = new byte[(int) tensor.info().bytes()];
      tensor.readRows(0, (int) tensor.info().rows(), bytes, 0);
      return new Content(tensor.info(), bytes);
    }

    Content renamed(String name) {
      return new Content(new TensorInfo(name, info.type(), info.shape()), bytes);
    }

    /** In another type. */
    Content as(TensorType type) {
      float[] values = new float[(int) info.elements()];
      decodeRows(0, (int) info.rows(), values, 0);
      return with(type, values);
    }

    /** With other values. */
    Content with(TensorType type, float[] values) {
      byte[] other = new byte[(int) info.withType(type).bytes()];
      BlockEncoders.scalar(type).orElseThrow().encode(values, 0, values.length, 1, null, 0, other, 0);
      return new Content(info.withType(type), other);
    }

    @Override
    public void readRows(long firstRow, int rows, byte[] out, int outOffset) {
      int rowBytes = (int) info.rowBytes();
      System.arraycopy(bytes, (int) firstRow * rowBytes, out, outOffset, rows * rowBytes);
    }

    @Override
    public void decodeRows(long firstRow, int rows, float[] out, int outOffset) {
      int rowBytes = (int) info.rowBytes();
      int length = (int) info.rowLength();
      BlockDecoders.of(info.type()).decode(bytes, (int) firstRow * rowBytes, out, outOffset, rows * length);
    }
  }

  static MemoryModel of(Model model) throws IOException {
    List<Content> tensors = new ArrayList<>();
    for (Tensor tensor : model.tensors()) {
      tensors.add(Content.of(tensor));
    }
    return new MemoryModel(model.source(), model.metadata(), tensors);
  }

  MemoryModel with(String key, MetadataValue value) {
    return new MemoryModel(source, metadata.with(key, value), tensors);
  }

  /** With other tensors in the place of some. */
  MemoryModel with(Predicate<TensorInfo> which, UnaryOperator<Content> change) {
    List<Content> changed = tensors
      .stream()
      .map(t -> which.test(t.info()) ? change.apply(t) : t)
      .toList();
    return new MemoryModel(source, metadata, changed);
  }

  MemoryModel without(String name) {
    return new MemoryModel(
      source,
      metadata,
      tensors
        .stream()
        .filter(t -> !t.info().name().equals(name))
        .toList()
    );
  }

  Content tensor(String name) {
    return tensors
      .stream()
      .filter(t -> t.info().name().equals(name))
      .findFirst()
      .orElseThrow();
  }

  @Override
  public List<Path> files() {
    return List.of();
  }

  @Override
  public void close() {
    // Nothing is open.
  }
}
