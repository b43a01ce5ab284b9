package dev.attar.distill.student;

import static java.lang.foreign.ValueLayout.JAVA_FLOAT_UNALIGNED;

import dev.attar.distill.DistillException;
import dev.attar.formats.Metadata;
import dev.attar.formats.MetadataValue;
import dev.attar.formats.Model;
import dev.attar.formats.RoundedTensor;
import dev.attar.formats.Tensor;
import dev.attar.formats.TensorInfo;
import dev.attar.formats.TensorType;
import dev.attar.formats.safetensors.ElementType;
import dev.attar.formats.safetensors.SafetensorsFile;
import dev.attar.formats.safetensors.SafetensorsWriter;
import dev.attar.formats.safetensors.StoredTensor;
import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * A student with the weights that training has given it. The weights lie in a safetensors file of F32 tensors with GGUF's names, shapes and
 * order of rows ({@link #entry}); they are read, and rounded, as they are asked for, by any thread.
 */
public final class TrainedModel implements Model {

  /** Keys of the metadata that say how the student was trained. */
  public static final String PREFIX = "attar.distill.";

  private static final ValueLayout.OfFloat FLOAT = JAVA_FLOAT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);

  /** No weight: it follows from the settings of the model, and is not trained. */
  private static final String FREQUENCIES = "rope_freqs.weight";

  private final Model student;
  private final SafetensorsFile weights;
  private final Metadata metadata;
  private final List<Tensor> tensors;

  private TrainedModel(Model student, SafetensorsFile weights, Metadata metadata, List<Tensor> tensors) {
    this.student = student;
    this.weights = weights;
    this.metadata = metadata;
    this.tensors = List.copyOf(tensors);
  }

  /**
   * What a tensor of the student is in the file of its weights: of F32, under its own name, with its dimensions outermost first, so that a
   * matrix of ggml's shape {columns, rows} is (rows, columns), row-major.
   */
  public static SafetensorsWriter.Entry entry(TensorInfo info) {
    List<Long> shape = new ArrayList<>();
    for (int i = info.shape().length - 1; i >= 0; i--) {
      shape.add(info.shape()[i]);
    }
    return new SafetensorsWriter.Entry(info.name(), ElementType.F32, shape);
  }

  /**
   * Presents a student with its weights.
   *
   * @param student what was trained, which must stay open; closing the result leaves it open
   * @param weights the file of weights, which must stay: all tensors of the student but {@code rope_freqs.weight}, and no others. A vector
   *     may have a first dimension of 1
   * @param single whether tensors are presented in single precision; otherwise in the student's own type if it is a plain one, and F16 if
   *     it is not
   * @param settings what the metadata say of the training beside what they say of the student, by keys that begin with {@link #PREFIX};
   *     what an earlier training wrote there is left out
   * @throws DistillException if the file does not have the student's tensors
   * @throws IOException if it is no safetensors file or cannot be read
   */
  public static TrainedModel open(Model student, Path weights, boolean single, Map<String, MetadataValue> settings)
    throws IOException {
    SafetensorsFile file = SafetensorsFile.open(weights);
    try {
      return new TrainedModel(student, file, metadata(student, settings), tensors(student, file, single));
    } catch (IOException | RuntimeException e) {
      file.close();
      throw e;
    }
  }

  private static Metadata metadata(Model student, Map<String, MetadataValue> settings) {
    Map<String, MetadataValue> out = new LinkedHashMap<>(student.metadata().values());
    out.keySet().removeIf(key -> key.startsWith(PREFIX));
    out.putAll(settings);
    return Metadata.of(out);
  }

  private static List<Tensor> tensors(Model student, SafetensorsFile file, boolean single) throws DistillException {
    Map<String, StoredTensor> stored = new HashMap<>();
    file.tensors().forEach(tensor -> stored.put(tensor.name(), tensor));
    List<Tensor> tensors = new ArrayList<>();
    for (Tensor tensor : student.tensors()) {
      TensorInfo info = tensor.info();
      StoredTensor values = stored.remove(info.name());
      if (values != null) {
        check(values, info);
        TensorType type = single ? TensorType.F32 : RoundedTensor.type(info.type());
        tensors.add(tensor(info.withType(type), values.bytes()));
      } else if (info.name().equals(FREQUENCIES)) {
        tensors.add(tensor);
      } else {
        throw new DistillException(file.path() + ": tensor " + info.name() + " of " + student.source() + " is missing");
      }
    }
    if (!stored.isEmpty()) {
      String name = stored.keySet().stream().sorted().findFirst().orElseThrow();
      throw new DistillException(file.path() + ": tensor " + name + " is not one of " + student.source());
    }
    return tensors;
  }

  private static void check(StoredTensor values, TensorInfo info) throws DistillException {
    long[] shape = values.shape();
    SafetensorsWriter.Entry expected = entry(info);
    boolean row = info.shape().length == 1 && shape.length == 2 && shape[0] == 1;
    List<Long> found = Arrays.stream(row ? new long[] { shape[1] } : shape).boxed().toList();
    if (values.type() != ElementType.F32 || !found.equals(expected.shape())) {
      throw new DistillException(
        values.file() +
          ": tensor " +
          values.name() +
          ": found " +
          values.type() +
          " " +
          values.shapeText() +
          ", expected F32 " +
          expected.shape()
      );
    }
  }

  private static Tensor tensor(TensorInfo info, MemorySegment values) {
    int length = Math.toIntExact(info.rowLength());
    return new RoundedTensor(info, (first, rows, to) ->
      MemorySegment.copy(values, FLOAT, first * length * Float.BYTES, to, 0, Math.multiplyExact(rows, length))
    );
  }

  @Override
  public Path source() {
    return student.source();
  }

  @Override
  public List<Path> files() {
    List<Path> files = new ArrayList<>(student.files());
    files.add(weights.path());
    return files;
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
    weights.close();
  }
}
