package dev.attar.bench.report;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.ObjectMapper;
import dev.attar.bench.Comparison;
import dev.attar.bench.ModelResult;
import dev.attar.bench.Subject;
import dev.attar.bench.accuracy.Perplexity;
import dev.attar.bench.latency.LatencyResult;
import dev.attar.bench.latency.LatencyTest;
import dev.attar.bench.latency.Ratio;
import dev.attar.bench.tensors.TensorError;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.OptionalDouble;
import java.util.OptionalInt;
import java.util.OptionalLong;
import org.junit.jupiter.api.Test;

/** JSON, CSV and Markdown. */
class ResultsTest {

  @Test
  void jsonHasTheKeysThatProgramsRelyOn() {
    List<Map<String, Object>> models = JsonResults.of(Comparisons.of(1));
    Map<String, Object> base = models.get(0);
    Map<String, Object> variant = models.get(1);
    for (String key : words(
      """
      model file bytes bits_per_weight parameters perplexity perplexity_error tokens windows context
      pp_tokens_per_second tg_tokens_per_second tg128_t2_tokens_per_second first_token_seconds load_seconds peak_rss_bytes
      """
    )) {
      assertTrue(base.containsKey(key), key);
      assertTrue(variant.containsKey(key), key);
    }
    for (String key : words(
      """
      base perplexity_ratio perplexity_ratio_error kld_mean kld_mean_error kld_median kld_p90 kld_p99 kld_p999 kld_max
      delta_p_mean_percent delta_p_rms_percent same_top_percent same_top_percent_error tensor_error_max
      pp_tokens_per_second_ratio pp_tokens_per_second_ratio_low pp_tokens_per_second_ratio_high
      """
    )) {
      assertFalse(base.containsKey(key), key);
      assertTrue(variant.containsKey(key), key);
    }
    assertEquals("F16", variant.get("base"));
    assertEquals(1.71, variant.get("tg_tokens_per_second_ratio"));
    assertFalse(variant.containsKey("failed"));
  }

  @Test
  void jsonLeavesOutWhatWasNotAskedFor() {
    Comparison comparison = new Comparisons().settings(Comparisons.settings(false, List.of(), false)).build();
    assertEquals(
      List.of("model", "file", "bytes", "bits_per_weight", "parameters", "load_seconds", "peak_rss_bytes"),
      List.copyOf(JsonResults.of(comparison).getFirst().keySet())
    );
  }

  @Test
  void jsonOfAFailedModelSaysWhy() {
    Map<String, Object> failed = JsonResults.of(new Comparisons().failed("bad", "magic is wrong").build()).get(1);
    assertEquals(
      Map.of(
        "model",
        "bad",
        "file",
        Path.of("models", "bad.gguf").toString(),
        "base",
        "F16",
        "failed",
        "magic is wrong"
      ),
      failed
    );
  }

  @Test
  void numbersThatAreNoneBecomeNull() throws Exception {
    LatencyTest test = Comparisons.TESTS.getFirst();
    ModelResult odd = new ModelResult(
      Subject.of("odd", Path.of("odd.gguf")),
      Optional.empty(),
      OptionalDouble.empty(),
      OptionalLong.empty(),
      Optional.of(new Perplexity(Double.POSITIVE_INFINITY, Double.NaN, 256, 1, 512)),
      Optional.empty(),
      List.of(new LatencyResult(test, List.of(5.0), 5, 5, 5, Optional.of(new Ratio(2, 0, Double.POSITIVE_INFINITY)))),
      List.of(
        new TensorError("output.weight", OptionalInt.empty(), "output", "F32", 4, Double.POSITIVE_INFINITY, false)
      ),
      Optional.empty()
    );
    Comparison comparison = new Comparisons().variant(odd).build();
    Map<String, Object> json = JsonResults.of(comparison).get(1);
    assertTrue(json.containsKey("perplexity"));
    assertNull(json.get("perplexity"));
    assertNull(json.get("tensor_error_max"));
    assertEquals(2.0, json.get("pp_tokens_per_second_ratio"));
    assertFalse(json.containsKey("pp_tokens_per_second_ratio_high"), "with one run nothing is known of the interval");
    String text = new ObjectMapper().writeValueAsString(json);
    assertFalse(text.contains("NaN") || text.contains("Infinity"), text);
  }

  @Test
  void csvHasALinePerModelAndTheKeysOfAll() {
    Comparison comparison = new Comparisons().variants(2).failed("a,b\"c\r\nd", "x").build();
    List<List<String>> rows = parse(CsvResults.of(comparison));
    List<Map<String, Object>> json = JsonResults.of(comparison);
    assertEquals(5, rows.size());
    List<String> header = rows.getFirst();
    assertEquals(List.of("model", "file", "base", "bytes"), header.subList(0, 4));
    for (int i = 0; i < json.size(); i++) {
      for (int k = 0; k < header.size(); k++) {
        Object value = json.get(i).get(header.get(k));
        assertEquals(value == null ? "" : value.toString(), rows.get(i + 1).get(k));
      }
    }
    assertEquals("a,b\"c\r\nd", rows.getLast().getFirst());
  }

  @Test
  void csvDisarmsFormulas() {
    for (String name : List.of("=1+1", "+1", "-1", "@x", "\tx")) {
      List<List<String>> rows = parse(CsvResults.of(new Comparisons().variant(name).build()));
      assertEquals("'" + name, rows.get(2).getFirst());
    }
    Comparison negative = Comparisons.of(1);
    String header = "delta_p_mean_percent";
    List<List<String>> rows = parse(CsvResults.of(negative));
    assertTrue(rows.get(2).get(rows.getFirst().indexOf(header)).startsWith("-0.00"), "numbers stay numbers");
  }

  @Test
  void markdownIsATable() {
    Comparison comparison = new Comparisons()
      .settings(Comparisons.settings(false, List.of(), false))
      .variants(2)
      .failed("broken|one", "found <b> & `x`")
      .build();
    assertEquals(
      """
      | Model | Size (GB) | Bits per weight | Load (ms) | Memory (GB) |
      | :-- | --: | --: | --: | --: |
      | F16 | 2.203 | 16.01 | 244 | 2.43 |
      | Q8_0 | 1.171 (53.1 %) | 8.50 | 162 | 1.38 |
      | Q6_K | **0.905 (41.1 %)** | **6.57** | **141** | **1.13** |
      | broken\\|one | failed: found &lt;b&gt; &amp; \\`x\\` |  |  |  |
      """,
      MarkdownTable.of(comparison)
    );
  }

  @Test
  void markdownEscapesNames() {
    String table = MarkdownTable.of(new Comparisons().variant("_a_b_ [x](y) *c*\n| d").build());
    assertEquals(4, table.lines().count());
    assertTrue(table.contains("| \\_a_b\\_ \\[x\\](y) \\*c\\* \\| d |"), table);
  }

  private static List<String> words(String text) {
    return List.of(text.strip().split("\\s+", -1));
  }

  /** A reader of RFC 4180. */
  private static List<List<String>> parse(String csv) {
    List<List<String>> rows = new ArrayList<>();
    List<String> row = new ArrayList<>();
    StringBuilder cell = new StringBuilder();
    boolean quoted = false;
    for (int i = 0; i < csv.length(); i++) {
      char c = csv.charAt(i);
      if (quoted && c == '"' && i + 1 < csv.length() && csv.charAt(i + 1) == '"') {
        cell.append('"');
        i++;
      } else if (c == '"') {
        quoted = !quoted;
      } else if (!quoted && c == ',') {
        row.add(cell.toString());
        cell.setLength(0);
      } else if (!quoted && c == '\r') {
        assertEquals('\n', csv.charAt(++i));
        row.add(cell.toString());
        cell.setLength(0);
        rows.add(row);
        row = new ArrayList<>();
      } else {
        cell.append(c);
      }
    }
    assertEquals(0, row.size(), "the last line ends like the others");
    return rows;
  }
}
