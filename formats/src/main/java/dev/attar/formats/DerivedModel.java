package dev.attar.formats;

import java.nio.file.Path;
import java.util.List;

/** Another model with other metadata and tensors. Closing it leaves that one open. */
public final class DerivedModel implements Model {

  private final Model source;
  private final Metadata metadata;
  private final List<Tensor> tensors;

  /**
   * @param source the model, which must stay open
   * @param metadata in the place of its metadata
   * @param tensors in the place of its tensors
   */
  public DerivedModel(Model source, Metadata metadata, List<? extends Tensor> tensors) {
    this.source = source;
    this.metadata = metadata;
    this.tensors = List.copyOf(tensors);
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
    return tensors;
  }

  @Override
  public void close() {
    // The source is its owner's.
  }
}
