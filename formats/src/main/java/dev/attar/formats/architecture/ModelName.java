package dev.attar.formats.architecture;

import dev.attar.formats.MetadataValue;
import dev.attar.formats.Tensor;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.StringJoiner;
import java.util.regex.Pattern;

/**
 * What a model's name says: {@code Llama-3.2-1B-Instruct} is version 3.2 of {@code Llama} in size 1B, fine-tuned to {@code Instruct}.
 * The name is {@code _name_or_path} of {@code config.json} if that looks like one on the Hub, else the directory's.
 *
 * @param name the name as a title
 * @param version version numbers, or {@code null}
 * @param finetune what is none of the other parts, or {@code null}
 * @param basename the leading words, or {@code null}
 * @param sizeLabel the size by name or by count, such as {@code 8x7B}
 */
record ModelName(String name, String version, String finetune, String basename, String sizeLabel) {
  private static final Pattern VERSION = Pattern.compile("(v|iter)?\\d+(\\.\\d+)*", Pattern.CASE_INSENSITIVE);
  private static final Pattern TYPE = Pattern.compile("i?q\\d(_\\w)*|b?fp?(16|32)", Pattern.CASE_INSENSITIVE);
  private static final Pattern SIZE = Pattern.compile(
    "(A|\\d+x)?\\d+([._]\\d+)?[KMBT]\\d?|small|mini|medium|large|x?xl",
    Pattern.CASE_INSENSITIVE
  );

  static ModelName of(Path directory, CheckpointConfig config, List<? extends Tensor> tensors) {
    Path last = directory.toAbsolutePath().normalize().getFileName();
    String id = last == null ? "model" : last.toString();
    String onHub = config.json().path("_name_or_path").asText("");
    if (
      !onHub.isEmpty() &&
      onHub
        .chars()
        .filter(c -> c == '/')
        .count() <=
      1 &&
      !onHub.startsWith(".")
    ) {
      id = onHub.substring(onHub.indexOf('/') + 1);
    }
    return parse(id, SizeLabel.of(tensors));
  }

  /** Adds the keys, all but the size only if the name has more than one part that is understood. */
  void write(Map<String, MetadataValue> out) {
    put(out, "general.name", name);
    put(out, "general.version", version);
    put(out, "general.finetune", finetune);
    put(out, "general.basename", basename);
    put(out, "general.size_label", sizeLabel);
  }

  private static void put(Map<String, MetadataValue> out, String key, String value) {
    if (value != null) {
      out.put(key, MetadataValue.string(value));
    }
  }

  static ModelName parse(String id, String countedSize) {
    if (id.indexOf(' ') >= 0) {
      return new ModelName(id, null, null, null, countedSize);
    }
    List<String> base = new ArrayList<>();
    StringJoiner version = new StringJoiner("-").setEmptyValue("");
    StringJoiner size = new StringJoiner("-").setEmptyValue("");
    StringJoiner finetune = new StringJoiner("-").setEmptyValue("");
    for (String part : id.split("-+", -1)) {
      if (VERSION.matcher(part).matches()) {
        version.add(part);
      } else if (SIZE.matcher(part).matches() && !base.isEmpty()) {
        size.add(part.replace('_', '.'));
      } else if (!TYPE.matcher(part).matches() && !part.isEmpty()) {
        boolean leading = version.length() == 0 && size.length() == 0 && finetune.length() == 0;
        if (leading && Character.isLetter(part.charAt(0))) {
          base.add(part);
        } else {
          finetune.add(part);
        }
      }
    }
    boolean understood = version.length() + size.length() + finetune.length() > 0;
    return new ModelName(
      title(id),
      orNull(version.toString()),
      orNull(finetune.toString()),
      understood ? orNull(String.join("-", base)) : null,
      size.length() > 0 ? size.toString() : countedSize
    );
  }

  private static String orNull(String text) {
    return text.isEmpty() ? null : text;
  }

  private static String title(String id) {
    StringJoiner title = new StringJoiner(" ");
    for (String word : id.replace('-', ' ').strip().split("\\s+", -1)) {
      boolean lower = word.equals(word.toLowerCase(Locale.ROOT)) && !word.matches("v?\\d.*") && !word.isEmpty();
      title.add(lower ? word.substring(0, 1).toUpperCase(Locale.ROOT) + word.substring(1) : word);
    }
    return title.toString();
  }
}
