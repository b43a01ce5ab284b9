package dev.attar.distill.train;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.JsonNodeFactory;
import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.attar.distill.DistillListener.Step;
import dev.attar.distill.DistillListener.Validation;
import dev.attar.formats.FormatException;
import dev.attar.formats.json.JsonFiles;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;

/**
 * The history of a training, in memory and as a file of JSON lines: an object for each step and each validation. What is not a number has
 * no key. The file is what a resumed run knows of the runs before it.
 */
final class Metrics implements AutoCloseable {

  private final Path file;
  private final FileChannel channel;
  private final List<Step> steps = new ArrayList<>();
  private final List<Validation> validations = new ArrayList<>();

  private Metrics(Path file, FileChannel channel) {
    this.file = file;
    this.channel = channel;
  }

  /**
   * Opens a file.
   *
   * @param bytes how much of it counts: what follows is of steps that are done again, and is cut off
   * @throws FormatException if it has fewer bytes, or a line is not one of these
   */
  static Metrics open(Path file, long bytes) throws IOException {
    FileChannel channel = FileChannel.open(
      file,
      StandardOpenOption.CREATE,
      StandardOpenOption.READ,
      StandardOpenOption.WRITE
    );
    Metrics metrics = new Metrics(file, channel);
    try {
      if (channel.size() < bytes || bytes > Integer.MAX_VALUE) {
        throw new FormatException(file, "size", channel.size() + " bytes", bytes + ", as its checkpoint says");
      }
      metrics.read((int) bytes);
      channel.truncate(bytes);
      channel.position(bytes);
      return metrics;
    } catch (IOException | RuntimeException e) {
      channel.close();
      throw e;
    }
  }

  private void read(int bytes) throws IOException {
    ByteBuffer all = ByteBuffer.allocate(bytes);
    while (all.hasRemaining() && channel.read(all) >= 0) {
      // Reads as much as it can.
    }
    byte[] text = all.array();
    int begin = 0;
    for (int number = 1; begin < bytes; number++) {
      int end = begin;
      while (end < bytes && text[end] != '\n') {
        end++;
      }
      String place = "line " + number;
      byte[] line = new byte[end - begin];
      System.arraycopy(text, begin, line, 0, line.length);
      Line fields = new Line(file, place, JsonFiles.strictObject(file, place, line));
      switch (fields.text("kind")) {
        case "step" -> steps.add(fields.step());
        case "validation" -> validations.add(fields.validation());
        default -> throw new FormatException(file, place, fields.text("kind"), "kind step or validation");
      }
      begin = end + 1;
    }
  }

  /** All steps, in order; not to be changed. */
  List<Step> steps() {
    return steps;
  }

  /** All validations, in order; not to be changed. */
  List<Validation> validations() {
    return validations;
  }

  /** Its length in bytes. */
  long bytes() throws IOException {
    return channel.position();
  }

  /**
   * Adds a step.
   *
   * @param seconds that training has taken so far
   */
  void add(Step step, double seconds) throws IOException {
    ObjectNode json = object("step", step.phase(), step.number());
    json.put("steps", step.steps());
    put(json, "loss", step.loss());
    put(json, "divergence", step.divergence());
    put(json, "cross_entropy", step.crossEntropy());
    put(json, "states", step.states());
    put(json, "gradient_norm", step.gradientNorm());
    put(json, "rate", step.rate());
    put(json, "tokens_per_second", step.tokensPerSecond());
    put(json, "seconds", seconds);
    write(json);
    steps.add(step);
  }

  /**
   * Adds a validation.
   *
   * @param seconds that training has taken so far
   */
  void add(Validation validation, double seconds) throws IOException {
    ObjectNode json = object("validation", validation.phase(), validation.step());
    put(json, "loss", validation.loss());
    put(json, "divergence", validation.divergence());
    put(json, "cross_entropy", validation.crossEntropy());
    json.put("best", validation.best());
    put(json, "seconds", seconds);
    write(json);
    validations.add(validation);
  }

  private static ObjectNode object(String kind, String phase, int step) {
    return JsonNodeFactory.instance.objectNode().put("kind", kind).put("phase", phase).put("step", step);
  }

  private static void put(ObjectNode json, String key, double value) {
    if (Double.isFinite(value)) {
      json.put(key, value);
    }
  }

  private void write(ObjectNode json) throws IOException {
    ByteBuffer line = ByteBuffer.wrap((json + "\n").getBytes(StandardCharsets.US_ASCII));
    while (line.hasRemaining()) {
      channel.write(line);
    }
  }

  /** Waits until all is on the disk. */
  void force() throws IOException {
    channel.force(true);
  }

  @Override
  public void close() throws IOException {
    channel.close();
  }

  /** A line of a file that nobody vouches for. */
  private record Line(Path file, String place, ObjectNode json) {
    Step step() throws FormatException {
      return new Step(
        text("phase"),
        whole("step"),
        whole("steps"),
        number("loss"),
        number("divergence"),
        number("cross_entropy"),
        number("states"),
        number("gradient_norm"),
        number("rate"),
        number("tokens_per_second"),
        Optional.empty()
      );
    }

    Validation validation() throws FormatException {
      return new Validation(
        text("phase"),
        whole("step"),
        number("loss"),
        number("divergence"),
        number("cross_entropy"),
        json.path("best").asBoolean()
      );
    }

    String text(String key) throws FormatException {
      JsonNode node = json.path(key);
      if (!node.isTextual()) {
        throw new FormatException(file, place + ": " + key, JsonFiles.kind(node), "a string");
      }
      return node.textValue();
    }

    private int whole(String key) throws FormatException {
      JsonNode node = json.path(key);
      if (!node.isInt() || node.intValue() < 0) {
        throw new FormatException(file, place + ": " + key, JsonFiles.kind(node), "a whole number");
      }
      return node.intValue();
    }

    private double number(String key) throws FormatException {
      JsonNode node = json.path(key);
      if (node.isMissingNode()) {
        return Double.NaN;
      }
      if (!node.isNumber()) {
        throw new FormatException(file, place + ": " + key, JsonFiles.kind(node), "a number");
      }
      return node.doubleValue();
    }
  }
}
