package dev.attar.formats.architecture;

import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.attar.formats.FormatException;
import dev.attar.formats.json.JsonFiles;
import dev.attar.formats.safetensors.ElementType;
import dev.attar.formats.safetensors.SafetensorsShard;
import dev.attar.formats.safetensors.SafetensorsWriter;
import dev.attar.formats.tokenizer.Tokenizer;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.channels.ClosedByInterruptException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.function.DoubleSupplier;
import java.util.function.Function;

/**
 * A Hugging Face checkpoint that is not there yet: which tensors its configuration asks for, and how they are written with values that
 * someone makes up. {@link HuggingFaceModel} opens the result.
 */
public final class NewCheckpoint {

  private static final int BAND = 1 << 18;

  private final CheckpointConfig config;
  private final Architecture architecture;
  private final HyperParameters h;

  private NewCheckpoint(CheckpointConfig config, Architecture architecture, HyperParameters h) {
    this.config = config;
    this.architecture = architecture;
    this.h = h;
  }

  /**
   * Reads a configuration.
   *
   * @param file a {@code config.json}, of this or any other name
   * @param vocabulary what {@code vocab_size} is if the file names none
   * @throws FormatException if the family is unknown, or a size missing, out of range or at odds with another
   * @throws IOException if it cannot be read
   */
  public static NewCheckpoint read(Path file, int vocabulary) throws IOException {
    CheckpointConfig config = CheckpointConfig.read(file);
    if (!config.has("vocab_size")) {
      config.json().put("vocab_size", vocabulary);
    }
    Architecture architecture = Architectures.of(config);
    return new NewCheckpoint(config, architecture, HyperParameters.read(config, architecture.defaults()));
  }

  /** The configuration. */
  public CheckpointConfig config() {
    return config;
  }

  /** Number of layers. */
  public int layers() {
    return h.layers();
  }

  /** Whether its feed-forward networks are experts, of which each token takes some. */
  public boolean hasExperts() {
    return architecture
      .tensors()
      .stream()
      .anyMatch(rule -> rule.rows() == TensorRule.Rows.STACKED);
  }

  /** The tensors, in single precision: the ends of the model first, then layer after layer. */
  public List<SafetensorsWriter.Entry> tensors() {
    List<SafetensorsWriter.Entry> entries = new ArrayList<>();
    List<TensorRule> rules = architecture
      .tensors()
      .stream()
      .filter(rule -> rule.required().test(h))
      .toList();
    rules
      .stream()
      .filter(rule -> !rule.isPerLayer())
      .forEach(rule -> add(rule, 0, entries));
    for (int layer = 0; layer < h.layers(); layer++) {
      for (TensorRule rule : rules) {
        if (rule.isPerLayer()) {
          add(rule, layer, entries);
        }
      }
    }
    return entries;
  }

  private void add(TensorRule rule, int layer, List<SafetensorsWriter.Entry> to) {
    List<Long> shape = Arrays.stream(rule.storedShape(h)).boxed().toList();
    for (int part = 0; part < rule.parts(h); part++) {
      to.add(new SafetensorsWriter.Entry(rule.storedName(layer, part), ElementType.F32, shape));
    }
  }

  /**
   * Writes a folder of {@code config.json}, safetensors and the files of a tokenizer: whole or not at all.
   *
   * @param tokenizer the folder with the tokenizer's files
   * @param values gives for a tensor its values one by one, row-major
   * @param out the folder to be, which must not be there
   * @throws FormatException if the tokenizer's files are malformed, or have tokens beyond {@code vocab_size}
   * @throws IOException if a file cannot be read or written
   * @throws InterruptedException if the calling thread is interrupted
   */
  public void write(Path tokenizer, Function<SafetensorsWriter.Entry, DoubleSupplier> values, Path out)
    throws IOException, InterruptedException {
    // Before there is a file of many bytes.
    Tokenizer.read(tokenizer, config.json(), architecture.tokenizer(), h.vocabulary());
    List<SafetensorsWriter.Entry> entries = tensors();
    long bytes = entries.stream().mapToLong(SafetensorsWriter.Entry::bytes).sum();
    List<SafetensorsShard> shards = SafetensorsShard.split(entries, SafetensorsShard.MAX_BYTES);
    try (OutputFolder folder = OutputFolder.create(out, false, List.of(tokenizer, config.file()), bytes)) {
      for (SafetensorsShard shard : shards) {
        try (SafetensorsWriter file = folder.create(shard)) {
          for (SafetensorsWriter.Entry entry : file.tensors()) {
            write(entry, values.apply(entry), folder, file);
          }
          folder.writing(file::finish);
        }
      }
      if (shards.size() > 1) {
        folder.write(SafetensorsShard.INDEX, JsonFiles.text(SafetensorsShard.index(shards)));
      }
      ObjectNode json = config.json().deepCopy();
      ChangedConfig.setType(json, null, ElementType.F32);
      folder.write("config.json", JsonFiles.text(json));
      folder.copyCompanions(tokenizer);
      folder.commit();
    } catch (ClosedByInterruptException e) {
      // An interrupted thread that uses a file channel gets this instead of what it should.
      if (Thread.interrupted()) {
        throw (InterruptedException) new InterruptedException().initCause(e);
      }
      throw e;
    }
  }

  private static void write(
    SafetensorsWriter.Entry entry,
    DoubleSupplier values,
    OutputFolder folder,
    SafetensorsWriter file
  ) throws IOException, InterruptedException {
    long left = entry.bytes() / Float.BYTES;
    ByteBuffer band = ByteBuffer.allocate((int) Math.min(BAND, left) * Float.BYTES).order(ByteOrder.LITTLE_ENDIAN);
    while (left > 0) {
      if (Thread.interrupted()) {
        throw new InterruptedException();
      }
      int count = (int) Math.min(BAND, left);
      band.clear();
      for (int i = 0; i < count; i++) {
        band.putFloat((float) values.getAsDouble());
      }
      folder.writing(() -> file.write(band.array(), 0, band.position()));
      left -= count;
    }
  }
}
