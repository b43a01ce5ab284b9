package dev.attar.distill.train;

import dev.attar.distill.DistillOptions;
import dev.attar.distill.DistillOptions.Loss;
import dev.attar.distill.DistillOptions.Schedule;
import dev.attar.formats.Version;
import java.util.LinkedHashMap;
import java.util.Locale;
import java.util.Map;
import java.util.OptionalInt;
import java.util.stream.Collectors;

/**
 * All that the result of a training depends on, by name: what a resumed one must have in common with the one before. How long it may take,
 * how often it is kept, what computes, with how many threads and in how much memory may change; on another device, or with other parts of
 * a batch, it is the same but for rounding.
 */
final class Settings {

  /** The name of what says which student, teacher and texts these are. */
  static final String IDENTITY = "identity";

  private Settings() {}

  static Map<String, String> of(DistillOptions options, String identity) {
    Map<String, String> values = new LinkedHashMap<>();
    values.put("version", Version.current());
    values.put(IDENTITY, identity);
    loss(values, options.loss());
    options
      .reconstruction()
      .ifPresent(first -> {
        values.put("steps of block reconstruction", String.valueOf(first.steps()));
        values.put("rate of block reconstruction", String.valueOf(first.rate()));
        values.put("ends of blocks", first.ends().toString());
      });
    schedule(values, options.schedule());
    values.put("batch", String.valueOf(options.batch()));
    values.put("context", String.valueOf(options.context()));
    values.put("validation every", String.valueOf(options.validationEvery()));
    values.put("seed", String.valueOf(options.seed()));
    return values;
  }

  private static void loss(Map<String, String> values, Loss loss) {
    values.put("divergence", loss.divergence().toString().toLowerCase(Locale.ROOT).replace('_', '-'));
    values.put("beta", String.valueOf(loss.beta()));
    values.put("temperature", String.valueOf(loss.temperature()));
    values.put("divergence weight", String.valueOf(loss.divergenceWeight()));
    values.put("cross-entropy weight", String.valueOf(loss.crossEntropyWeight()));
    values.put("top", number(loss.top(), "all"));
    values.put(
      "states",
      loss
        .states()
        .stream()
        .map(pair -> pair.student() + "=" + pair.teacher())
        .collect(Collectors.joining(","))
    );
    values.put("states weight", String.valueOf(loss.statesWeight()));
    values.put("cosine", String.valueOf(loss.cosine()));
  }

  private static void schedule(Map<String, String> values, Schedule schedule) {
    boolean timed = schedule.steps().isEmpty() && schedule.maxTime().isPresent();
    values.put("steps", number(schedule.steps(), timed ? "as many as there is time for" : "to read the text once"));
    values.put("rate", String.valueOf(schedule.rate()));
    values.put("warm-up", String.valueOf(schedule.warmup()));
    values.put("least rate", String.valueOf(schedule.leastRate()));
    values.put("beta1", String.valueOf(schedule.beta1()));
    values.put("beta2", String.valueOf(schedule.beta2()));
    values.put("epsilon", String.valueOf(schedule.epsilon()));
    values.put("decay", String.valueOf(schedule.decay()));
    values.put("clip", String.valueOf(schedule.clip()));
  }

  private static String number(OptionalInt value, String otherwise) {
    return value.isPresent() ? String.valueOf(value.getAsInt()) : otherwise;
  }
}
