package dev.attar.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;

import java.nio.charset.StandardCharsets;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.condition.DisabledOnOs;
import org.junit.jupiter.api.condition.OS;

class ShellWordsTest {

  @Test
  void plainWordsStayAsTheyAre() {
    assertEquals(
      "attar bench ../a-1.gguf --types Q8_0,Q4_K_M --text=/t@x:1%+",
      ShellWords.join(List.of("attar", "bench", "../a-1.gguf", "--types", "Q8_0,Q4_K_M", "--text=/t@x:1%+"))
    );
    assertEquals("'' 'a b' 'it'\\''s' '$HOME' 'ä'", ShellWords.join(List.of("", "a b", "it's", "$HOME", "ä")));
  }

  @Test
  @DisabledOnOs(value = OS.WINDOWS, disabledReason = "needs a POSIX shell")
  void aShellReadsTheWordsBack() throws Exception {
    List<String> words = List.of(
      "",
      "a b",
      "it's",
      "'",
      "\\",
      "\"$HOME\"",
      "*",
      "~",
      "a\nb",
      "#x",
      "a;b&c|d",
      "`id`",
      "!"
    );
    Process shell = new ProcessBuilder("sh", "-c", "printf '%s\\0' " + ShellWords.join(words)).start();
    String read = new String(shell.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
    assertEquals(words, List.of(read.substring(0, read.length() - 1).split("\0", -1)));
  }
}
