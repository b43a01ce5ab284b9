package dev.attar.distill.train;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.JsonNodeFactory;
import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.attar.formats.FormatException;
import dev.attar.formats.json.JsonFiles;
import java.io.IOException;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.OptionalInt;
import java.util.regex.Pattern;

/**
 * Where training was: what a run goes on from, but for the numbers, which are in the files that this names. The position in the order of
 * windows follows from phase and step, the history from the metrics.
 *
 * @param settings all that the result depends on, by name
 * @param phase what was under way
 * @param step steps of the phase that are done
 * @param steps of distillation in all; empty while that is not known
 * @param seconds that training has taken
 * @param micro sequences that were computed together
 * @param recompute whether activations were computed anew for gradients
 * @param metricsBytes length of the metrics until here
 * @param tensors the name of the file of weights and moments
 * @param best the name of the file of the best weights so far
 * @param bestLoss their validation loss
 * @param validationSeconds how long a validation takes
 */
record Checkpoint(
  Map<String, String> settings,
  Phase phase,
  int step,
  OptionalInt steps,
  double seconds,
  int micro,
  boolean recompute,
  long metricsBytes,
  String tensors,
  String best,
  double bestLoss,
  double validationSeconds
) {
  private static final String VERSION = "1";

  /** Names of files with tensors, which are all in the folder itself. */
  static final Pattern TENSORS = Pattern.compile("(state|best)-[a-z]+-\\d+\\.safetensors");

  Checkpoint {
    settings = new LinkedHashMap<>(settings);
  }

  /** The name of a file of weights. */
  static String fileName(String kind, String phase, int step) {
    return kind + "-" + phase + "-" + step + ".safetensors";
  }

  /** Where it was, for messages. */
  String place() {
    return "step " + step + " of " + phase;
  }

  ObjectNode json() {
    ObjectNode json = JsonNodeFactory.instance.objectNode();
    json.put("attar.distill", VERSION);
    json.put("phase", phase.toString());
    json.put("step", step);
    steps.ifPresent(count -> json.put("steps", count));
    json.put("seconds", seconds);
    json.put("micro", micro);
    json.put("recompute", recompute);
    json.put("metrics_bytes", metricsBytes);
    json.put("tensors", tensors);
    json.put("best", best);
    json.put("best_loss", bestLoss);
    json.put("validation_seconds", validationSeconds);
    ObjectNode names = json.putObject("settings");
    settings.forEach(names::put);
    return json;
  }

  /**
   * Reads a checkpoint's file.
   *
   * @throws FormatException if it is damaged, or another version's
   */
  static Checkpoint read(Path file) throws IOException {
    ObjectNode json = JsonFiles.object(file);
    String version = json.path("attar.distill").asText("");
    if (!version.equals(VERSION)) {
      throw new FormatException(file, "attar.distill", json.path("attar.distill").toString(), VERSION);
    }
    Fields fields = new Fields(file, json);
    Map<String, String> settings = new LinkedHashMap<>();
    json
      .path("settings")
      .properties()
      .forEach(entry -> settings.put(entry.getKey(), entry.getValue().asText("")));
    String phase = fields.text("phase");
    Phase under = phase.equals(Phase.RECONSTRUCTION.toString()) ? Phase.RECONSTRUCTION : Phase.DISTILLATION;
    if (!phase.equals(under.toString())) {
      throw new FormatException(file, "phase", phase, Phase.RECONSTRUCTION + " or " + Phase.DISTILLATION);
    }
    return new Checkpoint(
      settings,
      under,
      (int) fields.whole("step", 0, Integer.MAX_VALUE),
      json.has("steps") ? OptionalInt.of((int) fields.whole("steps", 1, Integer.MAX_VALUE)) : OptionalInt.empty(),
      fields.number("seconds"),
      (int) fields.whole("micro", 1, Integer.MAX_VALUE),
      json.path("recompute").asBoolean(),
      fields.whole("metrics_bytes", 0, Long.MAX_VALUE),
      fields.tensorFile("tensors"),
      fields.tensorFile("best"),
      fields.number("best_loss"),
      fields.number("validation_seconds")
    );
  }

  /** The values of a file that nobody vouches for. */
  private record Fields(Path file, ObjectNode json) {
    String text(String key) throws FormatException {
      JsonNode node = json.path(key);
      if (!node.isTextual()) {
        throw new FormatException(file, key, JsonFiles.kind(node), "a string");
      }
      return node.textValue();
    }

    /** A name that leads out of the folder would be another's file, and be deleted later. */
    String tensorFile(String key) throws FormatException {
      String name = text(key);
      if (!TENSORS.matcher(name).matches()) {
        throw new FormatException(file, key, name, "a name like " + fileName("best", "distillation", 1));
      }
      return name;
    }

    long whole(String key, long least, long most) throws FormatException {
      JsonNode node = json.path(key);
      if (!node.isIntegralNumber() || !node.canConvertToLong() || node.longValue() < least || node.longValue() > most) {
        throw new FormatException(file, key, found(node), "a whole number from " + least + " to " + most);
      }
      return node.longValue();
    }

    double number(String key) throws FormatException {
      JsonNode node = json.path(key);
      if (!node.isNumber() || !Double.isFinite(node.doubleValue())) {
        throw new FormatException(file, key, found(node), "a number");
      }
      return node.doubleValue();
    }

    private static String found(JsonNode node) {
      String text = node.isMissingNode() ? "nothing" : node.toString();
      return text.length() > 60 ? text.substring(0, 60) + "…" : text;
    }
  }
}
