package dev.attar.cli;

import dev.attar.quant.budget.BudgetPlan;
import dev.attar.quant.budget.SizeTarget;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.OptionalDouble;

/**
 * Tells of types that were chosen for a size.
 *
 * @param target the size
 * @param divergence the predicted mean KL divergence, in nats per token; empty if there is no prediction
 * @param choices what was chosen for each tensor that may change; empty if it was chosen by an earlier run
 */
record BudgetSummary(SizeTarget target, OptionalDouble divergence, List<BudgetPlan.Choice> choices) {
  BudgetSummary {
    choices = List.copyOf(choices);
  }

  /** What was chosen. */
  static BudgetSummary of(BudgetPlan plan) {
    return new BudgetSummary(plan.target(), plan.divergence(), plan.choices());
  }

  /** What was predicted, in one line; empty if nothing was. */
  Optional<String> line() {
    return divergence.isEmpty()
      ? Optional.empty()
      : Optional.of("predicted mean KL divergence: " + Text.number(divergence.getAsDouble(), 3));
  }

  /** What a tensor contributes to the prediction, as text; empty if that is not known. */
  String loss(String tensor) {
    return choices
      .stream()
      .filter(choice -> divergence.isPresent() && choice.tensor().name().equals(tensor))
      .map(choice -> Text.number(choice.loss(), 2))
      .findFirst()
      .orElse("");
  }

  /** For programs. */
  Map<String, Object> json() {
    Map<String, Object> json = new LinkedHashMap<>();
    switch (target) {
      case SizeTarget.FileSize(long bytes) -> json.put("file_bytes", bytes);
      case SizeTarget.BitsPerWeight(double bits) -> json.put("bits_per_weight", bits);
    }
    divergence.ifPresent(predicted -> json.put("predicted_kl_divergence", predicted));
    if (!choices.isEmpty()) {
      json.put("choices", choices.stream().map(this::json).toList());
    }
    return json;
  }

  private Map<String, Object> json(BudgetPlan.Choice choice) {
    Map<String, Object> json = new LinkedHashMap<>();
    json.put("name", choice.tensor().name());
    json.put("type", choice.type().toString());
    json.put("bytes", choice.bytes());
    json.put("given", choice.pinned());
    if (!Double.isNaN(choice.error())) {
      json.put("relative_error", choice.error());
    }
    if (divergence.isPresent()) {
      json.put("kl_divergence", choice.loss());
    }
    return json;
  }
}
