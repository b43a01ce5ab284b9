package dev.attar.quant.budget;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.attar.formats.TensorInfo;
import dev.attar.formats.TensorType;
import dev.attar.quant.FileType;
import dev.attar.quant.QuantizationException;
import dev.attar.quant.QuantizeOptions;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

class LossModelTest {

  private static final double TOLERANCE = 1e-12;

  private static TensorErrors errors(String name, boolean observed, double energy, double q3) {
    TensorInfo info = new TensorInfo(name, TensorType.BF16, new long[] { 256, 256 });
    Map<TensorType, Double> relative = Map.of(TensorType.BF16, 0.0, TensorType.Q3_K, q3, TensorType.Q5_K, q3 / 16);
    return new TensorErrors(info, observed, energy, relative);
  }

  /** Two blocks in whose feed-forward branches the stream grows from 1 to 4 to 16, and an attention that adds a little. */
  private static List<TensorErrors> twoBlocks() {
    return List.of(
      errors("output.weight", true, 100, 0.02),
      errors("token_embd.weight", false, 1, 0.03),
      errors("blk.0.attn_output.weight", true, 1, 0.04),
      errors("blk.0.attn_q.weight", true, 50, 0.05),
      errors("blk.0.ffn_down.weight", true, 2, 0.06),
      errors("blk.0.ffn_up.weight", true, 70, 0.07),
      errors("blk.1.attn_output.weight", true, 4, 0.08),
      errors("blk.1.attn_q.weight", true, 50, 0.09),
      errors("blk.1.ffn_down.weight", true, 8, 0.10),
      errors("blk.1.ffn_up.weight", true, 70, 0.11)
    );
  }

  private static Probe probe(String name, List<TensorErrors> changed, TensorType type) {
    Map<String, TensorType> types = new LinkedHashMap<>();
    changed.forEach(t -> types.put(t.name(), type));
    return new Probe(name, types, QuantizeOptions.of(FileType.Q8_0));
  }

  private static Probe kind(String kind) {
    return kind(kind, twoBlocks());
  }

  private static Probe kind(String kind, List<TensorErrors> errors) {
    return probe(
      kind,
      errors
        .stream()
        .filter(t -> LossModel.kind(t.name()).equals(kind))
        .toList(),
      TensorType.Q3_K
    );
  }

  @ParameterizedTest
  @CsvSource(
    {
      "blk.12.ffn_down.weight, ffn_down",
      "blk.0.attn_q.weight, attn_q",
      "token_embd.weight, token_embd",
      "blk.3.ffn_up_exps.weight, ffn_up_exps",
      "enc.blk.3.attn_q.weight, enc.blk.3.attn_q",
      "odd.weights, odd.weights"
    }
  )
  void namesKinds(String tensor, String kind) {
    assertEquals(kind, LossModel.kind(tensor));
  }

  /** A model whose coefficients are all 1. */
  private static LossModel plain(List<TensorErrors> errors) throws QuantizationException {
    LossModel uncalibrated = LossModel.uncalibrated(errors);
    List<Probe> probes = new ArrayList<>();
    List<Double> divergences = new ArrayList<>();
    for (String kind : List.of("output", "token_embd", "attn_output", "attn_q", "ffn_down", "ffn_up")) {
      probes.add(kind(kind, errors));
      divergences.add(uncalibrated.loss(probes.getLast().types()) / uncalibrated.coefficient(kind));
    }
    return LossModel.calibrate(errors, probes, divergences.stream().mapToDouble(Double::doubleValue).toArray());
  }

  @Test
  void weighsErrorsByTheBranchsShareOfTheResidualStream() throws QuantizationException {
    LossModel model = plain(twoBlocks());
    assertEquals(0.02, model.loss("output.weight", TensorType.Q3_K), TOLERANCE);
    assertEquals(0.03 / 16, model.loss("token_embd.weight", TensorType.Q5_K), TOLERANCE);
    assertEquals(0.05 * Math.pow(1 / 2.0, 0.75), model.loss("blk.0.attn_q.weight", TensorType.Q3_K), TOLERANCE);
    assertEquals(0.06 * Math.pow(2 / 4.0, 0.75), model.loss("blk.0.ffn_down.weight", TensorType.Q3_K), TOLERANCE);
    assertEquals(0.08 * Math.pow(4 / 8.0, 0.75), model.loss("blk.1.attn_output.weight", TensorType.Q3_K), TOLERANCE);
    assertEquals(0.11 * Math.pow(8 / 16.0, 0.75), model.loss("blk.1.ffn_up.weight", TensorType.Q3_K), TOLERANCE);
    assertEquals(0, model.loss("blk.1.ffn_up.weight", TensorType.BF16));
  }

  @Test
  void takesAllBranchesAsEqualIfAnOutputIsNotKnown() throws QuantizationException {
    List<TensorErrors> errors = new ArrayList<>(twoBlocks());
    errors.remove(2);
    LossModel model = plain(errors);
    errors.forEach(t ->
      assertEquals(t.relative().get(TensorType.Q3_K), model.loss(t.name(), TensorType.Q3_K), TOLERANCE)
    );
  }

  @Test
  void recoversCoefficients() throws QuantizationException {
    List<TensorErrors> errors = twoBlocks();
    LossModel plain = plain(errors);
    Map<String, Double> truth = Map.of(
      "output",
      3.0,
      "token_embd",
      0.5,
      "attn_output",
      7.0,
      "attn_q",
      0.25,
      "ffn_down",
      2.0,
      "ffn_up",
      1.5
    );
    List<Probe> probes = new ArrayList<>();
    List<Double> measured = new ArrayList<>();
    truth.forEach((kind, coefficient) -> {
      probes.add(kind(kind));
      measured.add(coefficient * plain.loss(probes.getLast().types()));
    });
    double[] divergences = measured.stream().mapToDouble(Double::doubleValue).toArray();
    LossModel model = LossModel.calibrate(errors, probes, divergences);
    assertTrue(model.isCalibrated());
    truth.forEach((kind, coefficient) -> assertEquals(coefficient, model.coefficient(kind), TOLERANCE));
    assertEquals(
      7 * plain.loss("blk.0.attn_output.weight", TensorType.Q5_K),
      model.loss("blk.0.attn_output.weight", TensorType.Q5_K),
      TOLERANCE
    );
    LossModel reduced = model.reduced(0.7);
    assertEquals(0.7 * 7, reduced.coefficient("attn_output"), TOLERANCE);

    // All together lose a fifth more than the sum.
    probes.add(probe(Probe.ALL, errors, TensorType.Q5_K));
    measured.add(1.2 * model.loss(probes.getLast().types()));
    divergences = measured.stream().mapToDouble(Double::doubleValue).toArray();
    LossModel scaled = LossModel.calibrate(errors, probes, divergences);
    truth.forEach((kind, coefficient) -> assertEquals(1.2 * coefficient, scaled.coefficient(kind), TOLERANCE));
    assertEquals(measured.getLast(), scaled.loss(probes.getLast().types()), TOLERANCE);
  }

  @Test
  void givesKindsThatWereNotMeasuredTheMean() throws QuantizationException {
    List<Probe> probes = List.of(kind("ffn_up"), kind("ffn_down"));
    LossModel plain = plain(twoBlocks());
    double up = plain.loss(probes.get(0).types());
    double down = plain.loss(probes.get(1).types());
    LossModel model = LossModel.calibrate(twoBlocks(), probes, new double[] { 3 * up, 0 });
    double mean = (3 * up) / (up + down);
    assertEquals(3, model.coefficient("ffn_up"), TOLERANCE);
    assertEquals(mean, model.coefficient("attn_q"), TOLERANCE);
    assertEquals(0.01 * mean, model.coefficient("ffn_down"), TOLERANCE);
  }

  @Test
  void isNotCalibratedByNoMeasurements() throws QuantizationException {
    LossModel model = LossModel.calibrate(twoBlocks(), List.of(kind("ffn_up")), new double[0]);
    assertFalse(model.isCalibrated());
    assertEquals(0.3, model.coefficient("ffn_up"));
    assertEquals(0.3, model.coefficient("token_embd"));
    // Logits of mean square 100 / 256.
    assertEquals(100 / 256.0 / 4, model.coefficient("output"), TOLERANCE);
  }

  @Test
  void refusesMeasurementsThatAreNone() {
    List<Probe> probes = List.of(kind("ffn_up"), kind("ffn_down"));
    assertRefused("1 measured divergences, expected 2", probes, 1);
    assertRefused("probe ffn_down: a divergence of NaN", probes, 1, Double.NaN);
    assertRefused("probe ffn_up: a divergence of -0.1", probes, -0.1, 1);
    assertRefused("the probes' divergences are all 0: nothing can be predicted from them", probes, 0, 0);
  }

  private static void assertRefused(String message, List<Probe> probes, double... divergences) {
    assertEquals(
      message,
      assertThrows(QuantizationException.class, () ->
        LossModel.calibrate(twoBlocks(), probes, divergences)
      ).getMessage()
    );
  }
}
