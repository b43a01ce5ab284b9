package dev.attar.formats.architecture;

import static org.junit.jupiter.api.Assertions.assertFalse;

import dev.attar.formats.Model;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.stream.Stream;
import org.junit.jupiter.api.DynamicTest;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.TestFactory;

/**
 * Checkpoints come out as llama.cpp's converter writes them: one case per folder of {@code checkpoints}, each with a manifest of
 * what the converter wrote. The system property {@code attar.conformance} names a folder with more such cases.
 */
class ConformanceTest {

  private static final Path RESOURCES = Path.of("src/test/resources");

  @Test
  void sample() throws IOException {
    check(Path.of("../samples/sample"), RESOURCES.resolve("sample.manifest.json"));
  }

  @TestFactory
  List<DynamicTest> checkpoints() throws IOException {
    List<Path> cases = new ArrayList<>(folders(RESOURCES.resolve("checkpoints")));
    assertFalse(cases.isEmpty());
    String more = System.getProperty("attar.conformance");
    if (more != null) {
      cases.addAll(folders(Path.of(more)));
    }
    return cases
      .stream()
      .map(folder -> DynamicTest.dynamicTest(folder.getFileName().toString(), () -> check(folder, manifest(folder))))
      .toList();
  }

  private static Path manifest(Path folder) {
    Path manifest = folder.resolve("manifest.json");
    return Files.exists(manifest) ? manifest : folder.resolve("bf16.manifest.json");
  }

  private static List<Path> folders(Path parent) throws IOException {
    try (Stream<Path> entries = Files.list(parent)) {
      return entries.filter(Files::isDirectory).sorted().toList();
    }
  }

  private static void check(Path checkpoint, Path manifest) throws IOException {
    try (Model model = HuggingFaceModel.open(checkpoint)) {
      Manifest.read(manifest).assertEqualTo(model);
    }
  }
}
