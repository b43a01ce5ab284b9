package dev.attar.quant.budget;

import dev.attar.formats.TensorType;
import dev.attar.quant.QuantizationException;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.regex.Pattern;

/**
 * Predicts the mean Kullback-Leibler divergence of a quantized model: the sum over the tensors of their relative output errors, times
 * the weight of their branch in the residual stream, times a coefficient of their kind that is measured. That losses of layers add up,
 * each in proportion to its squared relative error, is the linearity theorem of HIGGS (Malinovskii et al. 2024, arXiv:2411.17525).
 */
public final class LossModel {

  private static final Pattern AROUND_KIND = Pattern.compile("^blk\\.\\d+\\.|\\.weight$");

  /** No kind counts less than this part of the mean: a measured 0 is never the truth. */
  private static final double LEAST_PART = 0.01;

  /** Where no divergence is measured: the middle of the coefficients of the kinds in the blocks of a model that was. */
  private static final double USUAL_COEFFICIENT = 0.3;

  private final Map<String, TensorErrors> errors = new LinkedHashMap<>();
  private final Map<String, Double> weights;
  private final Map<String, Double> coefficients;
  private final boolean calibrated;

  private LossModel(List<TensorErrors> tensors, Map<String, Double> coefficients, boolean calibrated) {
    tensors.forEach(t -> errors.put(t.name(), t));
    this.weights = ResidualStream.weights(tensors);
    this.coefficients = Map.copyOf(coefficients);
    this.calibrated = calibrated;
  }

  /** The kind of a tensor: its name without block and {@code .weight}, for instance {@code ffn_down}. */
  public static String kind(String tensor) {
    return AROUND_KIND.matcher(tensor).replaceAll("");
  }

  /**
   * The model without measurements, whose losses are comparable among each other but no divergences. All kinds count alike but the
   * output head, whose errors reach the predictions as they are: an error of the logits makes a divergence of half its variance under
   * the predicted distribution, about a quarter of its mean square over the vocabulary.
   */
  public static LossModel uncalibrated(List<TensorErrors> tensors) {
    Map<String, Double> coefficients = new HashMap<>();
    for (TensorErrors errors : tensors) {
      boolean head = errors.name().equals("output.weight") || errors.name().equals("token_embd.weight");
      double logitSquare = errors.energy() / errors.tensor().rows();
      coefficients.put(kind(errors.name()), head && errors.observed() ? logitSquare / 4 : USUAL_COEFFICIENT);
    }
    return new LossModel(tensors, coefficients, false);
  }

  /**
   * Calibrates by measured divergences. A kind's coefficient is what its probe gave over what it loses with coefficient 1. The probe of
   * all kinds together, if there is one, then scales all, since losses do not quite add up.
   *
   * @param tensors the errors
   * @param probes as {@link BudgetPlanner#probes} gives them
   * @param divergences of the probes, as many; or none, for a model that is not calibrated
   * @throws QuantizationException if a divergence is negative or not finite, there is not one for each probe, or all are 0
   */
  public static LossModel calibrate(List<TensorErrors> tensors, List<Probe> probes, double[] divergences)
    throws QuantizationException {
    if (divergences.length == 0) {
      return uncalibrated(tensors);
    }
    LossModel plain = new LossModel(tensors, Map.of(), false);
    if (divergences.length != probes.size()) {
      throw new QuantizationException(divergences.length + " measured divergences, expected " + probes.size());
    }
    double lossOfAll = 0;
    double divergenceOfAll = 0;
    for (int i = 0; i < divergences.length; i++) {
      String name = probes.get(i).name();
      if (!(divergences[i] >= 0 && divergences[i] < Double.POSITIVE_INFINITY)) {
        throw new QuantizationException("probe " + name + ": a divergence of " + divergences[i]);
      }
      if (!name.equals(Probe.ALL)) {
        lossOfAll += plain.loss(probes.get(i).types());
        divergenceOfAll += divergences[i];
      }
    }
    if (!(lossOfAll > 0 && divergenceOfAll > 0)) {
      throw new QuantizationException("the probes' divergences are all 0: nothing can be predicted from them");
    }
    double mean = divergenceOfAll / lossOfAll;
    Map<String, Double> coefficients = new HashMap<>();
    tensors.forEach(t -> coefficients.put(kind(t.name()), mean));
    for (int i = 0; i < divergences.length; i++) {
      Probe probe = probes.get(i);
      double loss = plain.loss(probe.types());
      if (!probe.name().equals(Probe.ALL) && loss > 0) {
        coefficients.put(probe.name(), Math.max(divergences[i] / loss, LEAST_PART * mean));
      }
    }
    LossModel summed = new LossModel(tensors, coefficients, true);
    for (int i = 0; i < divergences.length; i++) {
      double loss = summed.loss(probes.get(i).types());
      if (probes.get(i).name().equals(Probe.ALL) && loss > 0 && divergences[i] > 0) {
        double scale = divergences[i] / loss;
        coefficients.replaceAll((_, coefficient) -> scale * coefficient);
      }
    }
    return new LossModel(tensors, coefficients, true);
  }

  /** Whether losses are divergences in nats per token. */
  public boolean isCalibrated() {
    return calibrated;
  }

  /** What a kind's losses are multiplied with. */
  public double coefficient(String kind) {
    return coefficients.getOrDefault(kind, 1.0);
  }

  /**
   * What a tensor contributes to the divergence.
   *
   * @param tensor the name of a tensor that was measured
   * @param type a type that was measured
   * @return not negative; infinite if the type cannot hold the tensor's values
   */
  public double loss(String tensor, TensorType type) {
    double relative = errors.get(tensor).relative().get(type);
    return relative == 0 ? 0 : coefficient(kind(tensor)) * weights.get(tensor) * relative;
  }

  /** What tensors contribute together. */
  public double loss(Map<String, TensorType> types) {
    // In the order of the tensors, so that the sum does not depend on that of the map.
    double sum = 0;
    for (String tensor : errors.keySet()) {
      TensorType type = types.get(tensor);
      sum += type == null ? 0 : loss(tensor, type);
    }
    return sum;
  }

  /**
   * The model for a method that leaves only a part of the errors of plain rounding, for which the errors and the divergences were measured.
   *
   * @param part of the squared error, for instance 0.7 for GPTQ
   */
  public LossModel reduced(double part) {
    Map<String, Double> reduced = new HashMap<>(coefficients);
    reduced.replaceAll((_, coefficient) -> part * coefficient);
    return new LossModel(List.copyOf(errors.values()), reduced, calibrated);
  }

  /** What was measured of a tensor. */
  TensorErrors errors(String tensor) {
    return errors.get(tensor);
  }
}
