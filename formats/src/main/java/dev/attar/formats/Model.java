package dev.attar.formats;

import java.io.IOException;
import java.nio.file.Path;
import java.util.List;

/**
 * A checkpoint in the one form that everything here works on: GGUF metadata and GGUF-named tensors. A Hugging Face directory and a
 * GGUF file look alike through it. Closing it unmaps the files; tensors must not be read after that.
 */
public interface Model extends AutoCloseable {
  /** Where it came from: the directory or (first) file. */
  Path source();

  /** The files that hold the tensors: all parts of a split model, all shards of a checkpoint. */
  List<Path> files();

  /** The metadata. */
  Metadata metadata();

  /** The tensors, in the order of the source. Names are unique. */
  List<? extends Tensor> tensors();

  @Override
  void close() throws IOException;
}
