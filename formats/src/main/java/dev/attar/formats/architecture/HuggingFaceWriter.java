package dev.attar.formats.architecture;

import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.attar.formats.FormatException;
import dev.attar.formats.Model;
import dev.attar.formats.OutputCheck;
import dev.attar.formats.json.JsonFiles;
import dev.attar.formats.safetensors.ElementType;
import dev.attar.formats.safetensors.SafetensorsCheckpoint;
import dev.attar.formats.safetensors.SafetensorsShard;
import dev.attar.formats.safetensors.SafetensorsWriter;
import java.io.IOException;
import java.nio.channels.ClosedByInterruptException;
import java.nio.file.FileAlreadyExistsException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.EnumMap;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

/**
 * Writes a model as a Hugging Face checkpoint, so that it can be trained further: {@link HuggingFaceModel} opens it with the same tensors
 * and metadata, but for the name, which follows the folder's, and {@code attar.*}.
 */
public final class HuggingFaceWriter {

  /** Bytes of a band of rows. A longer row is a band of its own. */
  private static final int BAND_BYTES = 1 << 20;

  /** Told after each band how far it is. */
  @FunctionalInterface
  public interface Progress {
    /**
     * @param done bytes of weights written so far
     * @param total bytes of all weights
     * @param tensor the tensor being written, by its name in the checkpoint
     */
    void report(long done, long total, String tensor);
  }

  private final Model model;
  private final Path folder;
  private final ObjectNode config;
  private final List<RestoredTensor> tensors;
  private final List<Path> sources;

  private HuggingFaceWriter(Model model, Path checkpoint, int[] layers) throws IOException {
    this.model = model;
    this.folder = Files.isDirectory(checkpoint) ? checkpoint : checkpoint.toAbsolutePath().getParent();
    CheckpointConfig original = CheckpointConfig.read(folder.resolve("config.json"));
    Architecture architecture = Architectures.of(original);
    CheckpointConfig changed = ChangedConfig.of(original, architecture, model, layers);
    HyperParameters h = HyperParameters.read(changed, architecture.defaults());
    this.config = changed.json();
    this.sources = new ArrayList<>(model.files());
    sources.add(folder);
    try (SafetensorsCheckpoint stored = SafetensorsCheckpoint.open(checkpoint)) {
      sources.addAll(stored.files());
      tensors = TensorRestorer.restore(model, h, architecture.tensors(), stored.tensors(), layers);
      Map<ElementType, Long> before = new EnumMap<>(ElementType.class);
      stored.tensors().forEach(t -> before.merge(t.type(), t.bytes().byteSize() / t.type().bytes(), Long::sum));
      Map<ElementType, Long> after = new EnumMap<>(ElementType.class);
      entries().forEach(t -> after.merge(t.type(), t.bytes() / t.type().bytes(), Long::sum));
      ChangedConfig.setType(config, most(before), most(after));
    }
    ChangedConfig.checkSettings(folder, changed, architecture, h, model);
  }

  private static ElementType most(Map<ElementType, Long> values) {
    return values.entrySet().stream().max(Map.Entry.comparingByValue()).orElseThrow().getKey();
  }

  private List<SafetensorsWriter.Entry> entries() {
    return tensors.stream().map(RestoredTensor::entry).toList();
  }

  private long bytes() {
    return tensors
      .stream()
      .mapToLong(tensor -> tensor.entry().bytes())
      .sum();
  }

  /**
   * Checks without writing that a model can be expressed as a checkpoint.
   *
   * @return the bytes of the weights that {@link #write} would write
   * @throws IOException as {@link #write}, but for what the output is about
   */
  public static long check(Model model, Path checkpoint, int[] layers) throws IOException {
    return new HuggingFaceWriter(model, checkpoint, layers).bytes();
  }

  /**
   * Checks the output as {@link #write} does, without writing. To be called before long work.
   *
   * @param sources files and folders that are going to be read
   * @throws IOException as {@link #write}
   */
  public static void checkOutput(Path out, boolean overwrite, List<Path> sources) throws IOException {
    OutputFolder.check(out, overwrite, sources);
  }

  /**
   * Writes a folder of {@code config.json}, safetensors (of at most 5 GB, with their index if there are several), and the source's files of
   * tokenizer, chat templates and generation settings: whole or not at all. {@code config.json} is the source's with only what has changed
   * replaced. A tensor that GGUF holds in single precision by rule, such as a norm, has the source's type again if that holds its values.
   *
   * @param model what was made of a checkpoint: with its tensors' names in F32, F16 or BF16, but maybe fewer layers and other widths; it
   *     must stay open and its values the same meanwhile
   * @param checkpoint the folder of that checkpoint, or a safetensors file in it
   * @param layers for each layer of the model its number in the checkpoint, ascending
   * @param out the folder to be; a symbolic link is followed
   * @param overwrite whether a folder that is there may be replaced: an empty one, or a checkpoint with nothing but files in it, from which
   *     nothing is read here
   * @param progress told how far it is, on the calling thread
   * @param check looks at the folder before it gets its name
   * @throws FormatException if the model has tensors that are quantized or not finite, layers that differ in their sizes, or is not one
   *     that can have been made of the checkpoint; or if the checkpoint is not in order
   * @throws FileAlreadyExistsException if there is a folder that may not be replaced, or a file, of this name
   * @throws IOException if a file cannot be read or written
   * @throws InterruptedException if the calling thread is interrupted
   * @throws IllegalArgumentException if {@code layers} does not fit the model and the checkpoint
   */
  public static void write(
    Model model,
    Path checkpoint,
    int[] layers,
    Path out,
    boolean overwrite,
    Progress progress,
    OutputCheck check
  ) throws IOException, InterruptedException {
    write(model, checkpoint, layers, out, overwrite, progress, check, SafetensorsShard.MAX_BYTES);
  }

  /** The same with another limit for the bytes of weights in a file. */
  static void write(
    Model model,
    Path checkpoint,
    int[] layers,
    Path out,
    boolean overwrite,
    Progress progress,
    OutputCheck check,
    long maxShardBytes
  ) throws IOException, InterruptedException {
    if (Thread.interrupted()) {
      throw new InterruptedException();
    }
    HuggingFaceWriter writer = new HuggingFaceWriter(model, checkpoint, layers);
    try (OutputFolder folder = OutputFolder.create(out, overwrite, writer.sources, writer.bytes())) {
      writer.write(folder, progress, maxShardBytes);
      check.check(folder.path());
      folder.commit();
    } catch (ClosedByInterruptException e) {
      // An interrupted thread that uses a file channel gets this instead of what it should.
      if (Thread.interrupted()) {
        throw (InterruptedException) new InterruptedException().initCause(e);
      }
      throw e;
    }
  }

  private void write(OutputFolder out, Progress progress, long maxShardBytes) throws IOException, InterruptedException {
    Map<SafetensorsWriter.Entry, RestoredTensor> byEntry = new HashMap<>();
    tensors.forEach(tensor -> byEntry.put(tensor.entry(), tensor));
    List<SafetensorsShard> shards = SafetensorsShard.split(entries(), maxShardBytes);
    Transfer transfer = new Transfer(out, progress, bytes());
    for (SafetensorsShard shard : shards) {
      try (SafetensorsWriter file = out.create(shard)) {
        for (SafetensorsWriter.Entry entry : file.tensors()) {
          transfer.copy(byEntry.get(entry), file);
        }
        out.writing(file::finish);
      }
    }
    if (shards.size() > 1) {
      out.write(SafetensorsShard.INDEX, JsonFiles.text(SafetensorsShard.index(shards)));
    }
    out.write("config.json", JsonFiles.text(config));
    out.copyCompanions(folder);
  }

  /** Copies tensors band by band. */
  private final class Transfer {

    private final OutputFolder out;
    private final Progress progress;
    private final long total;
    private long done;
    private byte[] band = {};

    Transfer(OutputFolder out, Progress progress, long total) {
      this.out = out;
      this.progress = progress;
      this.total = total;
    }

    void copy(RestoredTensor tensor, SafetensorsWriter file) throws IOException, InterruptedException {
      String name = tensor.entry().name();
      long rowBytes = tensor.rowBytes();
      int rows = Math.toIntExact(Math.clamp(BAND_BYTES / rowBytes, 1, tensor.rows()));
      int size = Math.toIntExact(rows * rowBytes);
      if (band.length < size) {
        band = new byte[size];
      }
      for (long row = 0; row < tensor.rows(); row += rows) {
        if (Thread.interrupted()) {
          throw new InterruptedException();
        }
        int count = (int) Math.min(rows, tensor.rows() - row);
        int length = Math.toIntExact(count * rowBytes);
        try {
          tensor.readRows(model.source(), row, count, band);
        } catch (InternalError e) {
          // What a mapped file gives when it has become shorter than it was.
          throw new IOException(model.source() + ": " + name + ": cannot be read, the file has changed", e);
        }
        out.writing(() -> file.write(band, 0, length));
        done += length;
        progress.report(done, total, name);
      }
    }
  }
}
