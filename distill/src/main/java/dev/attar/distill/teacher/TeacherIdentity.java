package dev.attar.distill.teacher;

import dev.attar.formats.FileDigest;
import dev.attar.formats.Model;
import dev.attar.formats.Models;
import java.io.IOException;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * All that a teacher's answers depend on, by name.
 *
 * @param values in the order in which they are compared
 */
public record TeacherIdentity(Map<String, String> values) {
  public TeacherIdentity {
    values = new LinkedHashMap<>(values);
  }

  /**
   * That of a model and texts: their SHA-256 and the settings that count.
   *
   * @param model a checkpoint, all files of which count
   * @throws IOException if a file cannot be read
   */
  public static TeacherIdentity of(Path model, LlamaTeacher.Settings settings) throws IOException {
    Map<String, String> values = new LinkedHashMap<>();
    try (Model opened = Models.open(model)) {
      values.put("teacher", FileDigest.sha256(opened.files()));
    }
    put(values, "text", settings.training());
    put(values, "validation text", settings.validation());
    values.put("tokens", settings.tokens().isPresent() ? String.valueOf(settings.tokens().getAsLong()) : "all");
    values.put("context", String.valueOf(settings.context()));
    values.put("validation windows", String.valueOf(settings.validationWindows()));
    values.put("vocabulary", settings.vocabulary() == 0 ? "all" : String.valueOf(settings.vocabulary()));
    return new TeacherIdentity(values);
  }

  private static void put(Map<String, String> values, String name, List<Path> texts) throws IOException {
    for (int i = 0; i < texts.size(); i++) {
      values.put(name + " " + (i + 1), FileDigest.sha256(List.of(texts.get(i))));
    }
  }
}
