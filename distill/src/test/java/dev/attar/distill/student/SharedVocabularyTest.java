package dev.attar.distill.student;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.attar.calibration.MemoryModel;
import dev.attar.distill.DistillException;
import dev.attar.formats.Metadata;
import dev.attar.formats.MetadataValue;
import dev.attar.formats.Model;
import dev.attar.formats.Models;
import java.io.IOException;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.function.UnaryOperator;
import org.junit.jupiter.api.Test;

class SharedVocabularyTest {

  private static final Path CHECKPOINTS = Path.of("../formats/src/test/resources/checkpoints");
  private static final String KEY = "tokenizer.ggml.";
  private static final String FOUND = "test-model: tokenizer.ggml.";

  /** A vocabulary of pieces: the last ones are named and of a type as given. */
  private static Metadata pieces(String[] tokens, int... types) {
    float[] scores = new float[tokens.length];
    for (int i = 0; i < scores.length; i++) {
      scores[i] = -i;
    }
    return Metadata.of(
      Map.of(
        KEY + "model",
        MetadataValue.string("llama"),
        KEY + "tokens",
        MetadataValue.strings(List.of(tokens)),
        KEY + "scores",
        MetadataValue.float32s(scores),
        KEY + "token_type",
        MetadataValue.int32s(types)
      )
    );
  }

  private static Metadata pieces() {
    return pieces(new String[] { "<unk>", "<s>", "</s>", "a", "b" }, 2, 3, 3, 1, 1);
  }

  /** The same with padding behind it. */
  private static Metadata padded(int type, String... more) {
    String[] tokens = Arrays.copyOf(new String[] { "<unk>", "<s>", "</s>", "a", "b" }, 5 + more.length);
    int[] types = Arrays.copyOf(new int[] { 2, 3, 3, 1, 1 }, tokens.length);
    System.arraycopy(more, 0, tokens, 5, more.length);
    Arrays.fill(types, 5, types.length, type);
    return pieces(tokens, types);
  }

  private static Metadata bytes() {
    return Metadata.of(
      Map.of(
        KEY + "model",
        MetadataValue.string("gpt2"),
        KEY + "pre",
        MetadataValue.string("qwen2"),
        KEY + "tokens",
        MetadataValue.strings(List.of("a", "b", "ab", "<|end|>")),
        KEY + "token_type",
        MetadataValue.int32s(new int[] { 1, 1, 1, 3 }),
        KEY + "merges",
        MetadataValue.strings(List.of("a b"))
      )
    );
  }

  private static Model model(Metadata metadata) {
    return new MemoryModel(metadata, List.of());
  }

  private static SharedVocabulary compare(Metadata teacher, Metadata student) throws DistillException {
    return SharedVocabulary.of(model(teacher), model(student));
  }

  private static void assertDiffers(Metadata teacher, UnaryOperator<Metadata> change, String message) {
    DistillException e = assertThrows(DistillException.class, () -> compare(teacher, change.apply(teacher)));
    assertEquals(FOUND + message + " as in the teacher test-model", e.getMessage());
  }

  @Test
  void theSame() throws IOException {
    assertEquals(new SharedVocabulary(5, List.of()), compare(pieces(), pieces()));
    assertEquals(new SharedVocabulary(4, List.of()), compare(bytes(), bytes()));
    for (String name : List.of("llama-yarn", "llama3-bpe", "qwen3", "llama-f32-hf")) {
      try (Model model = Models.open(CHECKPOINTS.resolve(name))) {
        int tokens = model.metadata().get(KEY + "tokens").orElseThrow().length();
        assertEquals(new SharedVocabulary(tokens, List.of()), SharedVocabulary.of(model, model));
      }
    }
  }

  @Test
  void whatIsNotAboutTextsMayDiffer() throws IOException {
    Metadata teacher = pieces()
      .with(KEY + "eos_token_id", MetadataValue.uint32(3))
      .with(KEY + "padding_token_id", MetadataValue.uint32(0))
      .with("tokenizer.chat_template", MetadataValue.string("{{ x }}"));
    assertEquals(5, compare(teacher, pieces()).tokens());
    // What llama.cpp takes where nothing is said.
    Metadata explicit = pieces()
      .with(KEY + "pre", MetadataValue.string("default"))
      .with(KEY + "add_bos_token", MetadataValue.bool(true))
      .with(KEY + "bos_token_id", MetadataValue.uint32(1))
      .with(KEY + "add_space_prefix", MetadataValue.bool(true))
      .with(KEY + "add_eos_token", MetadataValue.bool(false));
    assertEquals(5, compare(explicit, pieces()).tokens());
    Metadata llama3 = bytes().with(KEY + "pre", MetadataValue.string("llama-bpe"));
    assertEquals(4, compare(llama3, llama3.with(KEY + "add_bos_token", MetadataValue.bool(true))).tokens());
    assertEquals(4, compare(bytes(), bytes().with(KEY + "bos_token_id", MetadataValue.uint32(3))).tokens());
  }

  @Test
  void whatDiffersIsNamed() {
    MetadataValue no = MetadataValue.bool(false);
    MetadataValue yes = MetadataValue.bool(true);
    assertDiffers(
      pieces(),
      m -> m.with(KEY + "model", MetadataValue.string("gpt2")),
      "model: found 'gpt2', expected 'llama'"
    );
    assertDiffers(
      bytes(),
      m -> m.with(KEY + "pre", MetadataValue.string("gpt-2")),
      "pre: found 'gpt-2', expected 'qwen2'"
    );
    assertDiffers(
      pieces(),
      m -> m.with(KEY + "tokens", MetadataValue.strings(List.of("<unk>", "<s>", "</s>", "c", "d"))),
      "tokens: token 3: found 'c', expected 'a'"
    );
    assertDiffers(
      pieces(),
      m -> m.with(KEY + "token_type", MetadataValue.int32s(new int[] { 2, 3, 3, 1, 4 })),
      "token_type: token 4 'b': found 4, expected 1"
    );
    assertDiffers(
      pieces(),
      m -> m.with(KEY + "scores", MetadataValue.float32s(new float[] { 9, 9, 9, -3, -5 })),
      "scores: token 4 'b': found -5.0, expected -4.0"
    );
    assertDiffers(
      bytes(),
      m -> m.with(KEY + "merges", MetadataValue.strings(List.of("a b", "b a"))),
      "merges: merge 1: found 'b a', expected nothing"
    );
    assertDiffers(bytes(), m -> m.without(KEY + "merges"), "merges: merge 0: found nothing, expected 'a b'");
    assertDiffers(pieces(), m -> m.with(KEY + "add_space_prefix", no), "add_space_prefix: found false, expected true");
    assertDiffers(pieces(), m -> m.with(KEY + "add_bos_token", no), "add_bos_token: found false, expected true");
    assertDiffers(bytes(), m -> m.with(KEY + "add_eos_token", yes), "add_eos_token: found true, expected false");
    assertDiffers(
      pieces(),
      m -> m.with(KEY + "bos_token_id", MetadataValue.uint32(2)),
      "bos_token_id: found 2, expected 1"
    );
    assertDiffers(
      pieces().with(KEY + "add_eos_token", yes),
      m -> m.with(KEY + "eos_token_id", MetadataValue.uint32(4)),
      "eos_token_id: found 4, expected 2"
    );
  }

  @Test
  void paddingIsLeftOut() throws IOException {
    Metadata padded = padded(5, "[PAD5]", "[PAD6]", "[PAD7]");
    SharedVocabulary ofTeacher = compare(padded, pieces());
    assertEquals(5, ofTeacher.tokens());
    String line = "test-model: the last 3 of 8 tokens are padding, from '[PAD5]' on, and are left out";
    assertEquals(List.of("the teacher " + line), ofTeacher.notes());
    assertEquals(List.of("the student " + line), compare(pieces(), padded).notes());
    // Padding that both have is theirs, whatever its name.
    SharedVocabulary both = compare(padded(5, "[PAD1]", "[PAD2]"), padded);
    assertEquals(7, both.tokens());
    assertEquals(1, both.notes().size());
    assertEquals(5, compare(padded(4, "[PAD5]"), pieces()).tokens());
    assertEquals(5, SharedVocabulary.withoutPadding(model(padded)));
  }

  @Test
  void realTokensAreNoPadding() {
    assertDiffers(padded(5, "[PAD5]", "c"), _ -> pieces(), "tokens: token 6: found nothing, expected 'c'");
    assertDiffers(pieces(), _ -> padded(1, "[PAD5]"), "tokens: token 5: found '[PAD5]', expected nothing");
    assertDiffers(pieces(), _ -> padded(4, "[PAD1]"), "tokens: token 5: found '[PAD1]', expected nothing");
    assertDiffers(
      padded(5, "[PAD5]", "[PAD6]"),
      _ -> padded(1, "c"),
      "tokens: token 5: found 'c', expected '[PAD5]', which is padding,"
    );
    assertDiffers(
      padded(1, "c"),
      _ -> padded(5, "[PAD5]", "[PAD6]"),
      "tokens: token 5: found '[PAD5]', which is padding, expected 'c'"
    );
  }

  @Test
  void hostileVocabularies() {
    assertRefused(pieces().without(KEY + "tokens"), "tokens: found nothing, expected a vocabulary");
    assertRefused(
      pieces().with(KEY + "tokens", MetadataValue.int32s(new int[5])),
      "tokens: found nothing, expected a vocabulary"
    );
    assertRefused(
      pieces().with(KEY + "token_type", MetadataValue.int32s(new int[4])),
      "token_type: found [0, 0, 0, 0], expected 5 numbers, one for each token"
    );
    assertRefused(
      pieces().with(KEY + "scores", MetadataValue.string("x")),
      "scores: found x, expected 5 numbers, one for each token"
    );
  }

  private static void assertRefused(Metadata metadata, String message) {
    DistillException e = assertThrows(DistillException.class, () -> compare(metadata, pieces()));
    assertTrue(e.getMessage().contains("test-model: " + KEY), e.getMessage());
    assertTrue(e.getMessage().endsWith(message), e.getMessage());
    assertSame(DistillException.class, assertThrows(IOException.class, () -> compare(pieces(), metadata)).getClass());
  }
}
