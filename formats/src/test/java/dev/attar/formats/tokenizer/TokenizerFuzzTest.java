package dev.attar.formats.tokenizer;

import com.fasterxml.jackson.databind.node.JsonNodeFactory;
import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.attar.formats.FormatException;
import dev.attar.formats.Fuzzing;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Any bytes are either read as a {@code tokenizer.json} or refused in one line. */
public class TokenizerFuzzTest {

  private static final Path DIRECTORY = Path.of("no-such-directory");

  private static final String SMALL = """
    {"added_tokens":[{"id":2,"content":"<s>","special":true}],"normalizer":{"type":"Lowercase"},
    "pre_tokenizer":{"type":"ByteLevel","add_prefix_space":false},
    "post_processor":{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"<s>"}},{"Sequence":{"id":"A"}}],
    "pair":[{"SpecialToken":{"id":"<s>"}},{"Sequence":{"id":"A"}},{"Sequence":{"id":"B"}}]},
    "decoder":{"type":"ByteLevel"},"model":{"type":"BPE","vocab":{"a":0,"b":1},"merges":["a b",["a","b"]]}}
    """;

  @Test
  void anyBytesAreReadOrRefused(@TempDir Path folder) throws IOException, InterruptedException {
    Path whole = Path.of("src/test/resources/checkpoints/llama3-bpe/tokenizer.json");
    List<byte[]> seeds = List.of(SMALL.getBytes(StandardCharsets.UTF_8), Files.readAllBytes(whole));
    Fuzzing.run(TokenizerFuzzTest.class, folder, seeds);
  }

  /** The target. */
  public static void fuzzerTestOneInput(byte[] data) throws IOException {
    ObjectNode empty = JsonNodeFactory.instance.objectNode();
    ObjectNode config = empty.deepCopy().put("bos_token", "<s>");
    try {
      TokenizerJson json = TokenizerJson.parse(DIRECTORY.resolve("tokenizer.json"), data);
      Tokenizer.read(new TokenizerFiles(DIRECTORY, empty, config, empty, json), Tokenizer.Family.LLAMA, 300);
    } catch (FormatException e) {
      if (e.getMessage().lines().count() != 1) {
        throw new AssertionError("not one line: " + e.getMessage());
      }
    }
  }
}
