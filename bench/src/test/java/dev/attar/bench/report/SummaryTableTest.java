package dev.attar.bench.report;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.attar.bench.Comparison;
import dev.attar.bench.ModelFacts;
import dev.attar.bench.ModelResult;
import dev.attar.bench.Subject;
import dev.attar.bench.latency.LatencyResult;
import dev.attar.bench.latency.LatencyTest;
import dev.attar.bench.latency.Ratio;
import dev.attar.bench.report.SummaryTable.Cell;
import dev.attar.bench.report.SummaryTable.Column;
import dev.attar.bench.report.SummaryTable.Row;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.OptionalDouble;
import java.util.OptionalLong;
import org.junit.jupiter.api.Test;

class SummaryTableTest {

  private static final LatencyTest GENERATION = new LatencyTest(LatencyTest.Kind.GENERATION, 128, 4);

  @Test
  void hasTheColumnsThatWereMeasured() {
    assertEquals(
      "model size bits_per_weight perplexity perplexity_ratio kld_mean kld_p99 same_top pp512 tg128 ttft512 load memory",
      keys(SummaryTable.of(Comparisons.of(2)))
    );
  }

  @Test
  void leavesOutWhatNobodyHas() {
    Comparison noText = new Comparisons()
      .settings(Comparisons.settings(false, List.of(GENERATION), false))
      .variants(1)
      .build();
    assertEquals("model size bits_per_weight tg128 load memory", keys(SummaryTable.of(noText)));
    assertEquals(
      "model size bits_per_weight perplexity load memory",
      keys(SummaryTable.of(new Comparisons().settings(Comparisons.settings(true, List.of(), false)).build()))
    );
  }

  @Test
  void writesValuesOfAColumnAlike() {
    SummaryTable table = SummaryTable.of(Comparisons.of(6));
    assertEquals("Size (GB)", column(table, "size").heading());
    assertEquals("2.203", cell(table, 0, "size").inline());
    assertEquals("0.669 (30.3 %)", cell(table, 4, "size").inline());
    assertEquals("7.844 ± 0.050", cell(table, 4, "perplexity").inline());
    assertEquals("0.01890 ± 0.0001", cell(table, 4, "kld_mean").inline());
    assertEquals("0.00060 ± 0.000004", cell(table, 1, "kld_mean").inline(), "an error that is not zero shows as such");
    assertEquals("93.68 ± 0.03", cell(table, 4, "same_top").inline());
    assertEquals("36.7 (2.51×)", cell(table, 4, "tg128").inline());
    assertEquals("", cell(table, 0, "kld_mean").text());
  }

  @Test
  void marksTheBestOfTheVariants() {
    SummaryTable table = SummaryTable.of(Comparisons.of(6));
    assertEquals(List.of(6), best(table, "size"));
    assertEquals(List.of(1), best(table, "perplexity"));
    assertEquals(List.of(1), best(table, "kld_mean"));
    assertEquals(List.of(1), best(table, "same_top"));
    assertEquals(List.of(6), best(table, "tg128"));
    assertEquals(List.of(1), best(table, "ttft512"));
  }

  @Test
  void marksSeveralThatDifferByLessThanTheUncertainty() {
    // 2.00 ± 0.05 and 2.05 ± 0.05 are the same, 1.5 ± 0.05 is less.
    Comparison comparison = speeds(new Ratio(2, 1.95, 2.05), new Ratio(2.05, 2, 2.1), new Ratio(1.5, 1.45, 1.55));
    assertEquals(List.of(1, 2), best(SummaryTable.of(comparison), "tg128"));
  }

  @Test
  void marksNoneWhereAllAreEqualOrAlone() {
    assertEquals(
      List.of(),
      best(SummaryTable.of(speeds(new Ratio(2, 1.9, 2.1), new Ratio(2.05, 1.95, 2.15))), "tg128")
    );
    assertEquals(List.of(), best(SummaryTable.of(Comparisons.of(1)), "size"));
    assertEquals(List.of(), best(SummaryTable.of(Comparisons.of(0)), "size"));
  }

  @Test
  void saysWhenARatioIsNoDifferenceOrNotKnown() {
    SummaryTable table = SummaryTable.of(
      speeds(new Ratio(1.02, 0.99, 1.05), new Ratio(0.8, 0.75, 0.85), new Ratio(1.5, 0, Double.POSITIVE_INFINITY))
    );
    assertEquals("no difference", cell(table, 1, "tg128").note());
    assertEquals("0.80×", cell(table, 2, "tg128").note());
    assertEquals("too few runs", cell(table, 3, "tg128").note());
  }

  @Test
  void showsAFailedModelAsARowOfItsOwn() {
    SummaryTable table = SummaryTable.of(new Comparisons().variants(2).failed("bad", "magic is wrong").build());
    Row row = table.rows().getLast();
    assertEquals("bad", row.name());
    assertEquals(Optional.of("failed: magic is wrong"), row.failure());
    assertEquals(1, row.cells().size());
    assertEquals(List.of(2), best(table, "size"));
  }

  @Test
  void takesNumbersThatAreNone() {
    Comparison comparison = speeds(new Ratio(Double.NaN, Double.NaN, Double.NaN), new Ratio(2, 1.9, 2.1));
    SummaryTable table = SummaryTable.of(comparison);
    assertTrue(cell(table, 2, "tg128").best());
    assertFalse(cell(table, 1, "tg128").best());
  }

  @Test
  void choosesTheUnitBySize() {
    ModelFacts small = new ModelFacts("m", "llama", 4_875_552, 8_000_000, 4.87, 4, 512, Map.of(), Map.of());
    Comparison one = Comparisons.of(0);
    ModelResult base = new ModelResult(
      Subject.of("m", Path.of("m.gguf")),
      Optional.of(small),
      OptionalDouble.of(0.0123),
      OptionalLong.of(151_000_000),
      Optional.empty(),
      Optional.empty(),
      List.of(),
      List.of(),
      Optional.empty()
    );
    SummaryTable table = SummaryTable.of(new Comparison(one.environment(), one.settings(), base, List.of()));
    assertEquals("4.88", cell(table, 0, "size").text());
    assertEquals("Size (MB)", column(table, "size").heading());
    assertEquals("12", cell(table, 0, "load").text());
    assertEquals("Load (ms)", column(table, "load").heading());
    assertEquals("151", cell(table, 0, "memory").text());
  }

  /** A comparison of generation alone, with these ratios to the base. */
  private static Comparison speeds(Ratio... ratios) {
    Comparisons comparisons = new Comparisons().settings(Comparisons.settings(false, List.of(GENERATION), false));
    for (int i = 0; i < ratios.length; i++) {
      double value = 10 * ratios[i].value();
      comparisons.variant(
        new ModelResult(
          Subject.of("v" + i, Path.of("v" + i + ".gguf")),
          Optional.empty(),
          OptionalDouble.empty(),
          OptionalLong.empty(),
          Optional.empty(),
          Optional.empty(),
          List.of(new LatencyResult(GENERATION, List.of(value), value, value, value, Optional.of(ratios[i]))),
          List.of(),
          Optional.empty()
        )
      );
    }
    return comparisons.build();
  }

  private static String keys(SummaryTable table) {
    return String.join(" ", table.columns().stream().map(Column::key).toList());
  }

  private static Column column(SummaryTable table, String key) {
    return table
      .columns()
      .stream()
      .filter(c -> c.key().equals(key))
      .findFirst()
      .orElseThrow();
  }

  private static Cell cell(SummaryTable table, int row, String key) {
    return table.rows().get(row).cells().get(table.columns().indexOf(column(table, key)));
  }

  /** Rows that are marked in a column. */
  private static List<Integer> best(SummaryTable table, String key) {
    return java.util.stream.IntStream.range(0, table.rows().size())
      .filter(i -> table.rows().get(i).failure().isEmpty() && cell(table, i, key).best())
      .boxed()
      .toList();
  }
}
