package dev.attar.formats.tokenizer;

import com.fasterxml.jackson.databind.JsonNode;
import dev.attar.formats.FormatException;
import dev.attar.formats.MetadataValue;
import dev.attar.formats.json.JsonFiles;
import java.io.IOException;
import java.nio.charset.CharacterCodingException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;

/**
 * A checkpoint's chat templates: {@code chat_template} of {@code tokenizer_config.json}, one text or a list of named ones; without
 * it {@code chat_template.jinja} with those of {@code additional_chat_templates}, or {@code chat_template.json}.
 */
final class ChatTemplates {

  private static final String KEY = "tokenizer.chat_template";

  private record Template(String name, String text) {}

  private ChatTemplates() {}

  /** The keys for a checkpoint's templates; empty if it has none. */
  static Map<String, MetadataValue> read(TokenizerFiles files) throws IOException {
    Map<String, MetadataValue> out = new LinkedHashMap<>();
    JsonNode inConfig = files.config().path("chat_template");
    if (!inConfig.isMissingNode()) {
      write(out, files.configFile(), inConfig);
      return out;
    }
    Path jinja = files.directory().resolve("chat_template.jinja");
    Path json = files.directory().resolve("chat_template.json");
    if (Files.isRegularFile(jinja)) {
      writeFiles(out, jinja, files.directory().resolve("additional_chat_templates"));
    } else if (Files.isRegularFile(json)) {
      write(out, json, JsonFiles.object(json).path("chat_template"));
    }
    return out;
  }

  private static void write(Map<String, MetadataValue> out, Path file, JsonNode template) throws FormatException {
    if (template.isTextual()) {
      out.put(KEY, MetadataValue.string(Vocabulary.requireText(file, "chat_template", template.textValue())));
    } else if (template.isArray()) {
      List<Template> named = new ArrayList<>();
      for (JsonNode entry : template) {
        if (!entry.path("name").isTextual() || !entry.path("template").isTextual()) {
          throw new FormatException(file, "chat_template", "an entry without name or template", "both");
        }
        String text = Vocabulary.requireText(file, "chat_template", entry.path("template").textValue());
        named.add(new Template(entry.path("name").textValue(), text));
      }
      writeNamed(out, named);
    }
  }

  private static void writeFiles(Map<String, MetadataValue> out, Path main, Path directory) throws IOException {
    List<Path> others = List.of();
    if (Files.isDirectory(directory)) {
      try (Stream<Path> entries = Files.list(directory)) {
        others = entries
          .filter(entry -> entry.toString().endsWith(".jinja"))
          .sorted()
          .toList();
      }
    }
    List<Template> named = new ArrayList<>();
    named.add(new Template("default", text(main)));
    for (Path other : others) {
      String name = other.getFileName().toString();
      named.add(new Template(name.substring(0, name.length() - ".jinja".length()), text(other)));
    }
    writeNamed(out, named);
  }

  private static String text(Path file) throws IOException {
    try {
      return Files.readString(file).replace("\r\n", "\n").replace('\r', '\n');
    } catch (CharacterCodingException _) {
      throw new FormatException(file, "not UTF-8");
    }
  }

  private static void writeNamed(Map<String, MetadataValue> out, List<Template> templates) {
    String main = null;
    List<String> names = new ArrayList<>();
    for (Template template : templates) {
      String name = template.name().replaceAll("[^A-Za-z0-9]", "_");
      if (name.equals("default")) {
        main = template.text();
      } else if (!name.isEmpty()) {
        out.put(KEY + "." + name, MetadataValue.string(template.text()));
        if (!names.contains(name)) {
          names.add(name);
        }
      }
    }
    if (!names.isEmpty()) {
      out.put("tokenizer.chat_templates", MetadataValue.strings(names));
    }
    if (main != null) {
      out.put(KEY, MetadataValue.string(main));
    }
  }
}
