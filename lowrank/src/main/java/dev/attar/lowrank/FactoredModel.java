package dev.attar.lowrank;

import dev.attar.formats.MappedFile;
import dev.attar.formats.MappedTensor;
import dev.attar.formats.Metadata;
import dev.attar.formats.Model;
import dev.attar.formats.Tensor;
import dev.attar.formats.TensorInfo;
import dev.attar.formats.TensorType;
import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;

/** A model with what a factorization has found in the place of weights. */
public final class FactoredModel implements Model {

  private final Model source;
  private final List<MappedFile> files;
  private final List<Tensor> tensors;

  private FactoredModel(Model source, List<MappedFile> files, List<Tensor> tensors) {
    this.source = source;
    this.files = List.copyOf(files);
    this.tensors = List.copyOf(tensors);
  }

  /**
   * Presents products in the place of weights, multiplied back: as large as before, with the error that the ranks cost. Rows are
   * computed as they are asked for, by any thread. Tensors keep their type if it is a plain one, and become F16 otherwise.
   *
   * @param source the model that was factorized, which must stay open; closing the result leaves it open
   * @param factors what was found, whose files must stay
   */
  public static Model of(Model source, Factorization factors) throws IOException {
    Map<String, FactoredTensor> found = new HashMap<>();
    factors.tensors().forEach(tensor -> found.put(tensor.source().name(), tensor));
    return of(source, (tensor, files) -> {
      FactoredTensor factored = found.get(tensor.info().name());
      return factored == null
        ? tensor
        : ProductTensor.of(tensor.info(), Optional.empty(), List.of(product(factored, files)));
    });
  }

  /**
   * Presents a base with the tensors that a run of several rounds has rounded anew.
   *
   * @param base the base of the run, which must stay open; closing the result leaves it open
   * @param factors what was found, whose files must stay
   */
  public static Model base(Model base, Factorization factors) throws IOException {
    Map<String, Path> anew = new HashMap<>();
    factors.tensors().forEach(tensor -> tensor.base().ifPresent(path -> anew.put(tensor.source().name(), path)));
    return of(base, (tensor, files) -> {
      Path path = anew.get(tensor.info().name());
      return path == null ? tensor : map(tensor.info(), path, files);
    });
  }

  /** What stands for a tensor. */
  @FunctionalInterface
  private interface Change {
    Tensor apply(Tensor tensor, List<MappedFile> files) throws IOException;
  }

  private static Model of(Model source, Change change) throws IOException {
    List<MappedFile> files = new ArrayList<>();
    try {
      List<Tensor> tensors = new ArrayList<>();
      for (Tensor tensor : source.tensors()) {
        tensors.add(change.apply(tensor, files));
      }
      return new FactoredModel(source, files, tensors);
    } catch (IOException | RuntimeException e) {
      files.forEach(MappedFile::close);
      throw e;
    }
  }

  private static Product product(FactoredTensor factored, List<MappedFile> files) throws IOException {
    TensorInfo source = factored.source();
    long matrices = source.rows() / source.dimension(1);
    long[] a = { source.rowLength(), factored.stored(), matrices };
    long[] b = { factored.stored(), source.dimension(1), matrices };
    return new Product(
      map(new TensorInfo(source.name() + ".a", TensorType.F32, a), factored.a(), files),
      map(new TensorInfo(source.name() + ".b", TensorType.F32, b), factored.b(), files),
      factored.rank(),
      1
    );
  }

  private static Tensor map(TensorInfo info, Path path, List<MappedFile> files) throws IOException {
    MappedFile file = MappedFile.open(path);
    files.add(file);
    return new MappedTensor(info, file.bytes());
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
    return source.metadata();
  }

  @Override
  public List<Tensor> tensors() {
    return tensors;
  }

  @Override
  public void close() {
    files.forEach(MappedFile::close);
  }
}
