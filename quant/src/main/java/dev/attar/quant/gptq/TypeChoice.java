package dev.attar.quant.gptq;

import dev.attar.formats.TensorType;
import dev.attar.quant.ChosenTypes;
import dev.attar.quant.FileType;
import dev.attar.quant.QuantizeOptions;
import dev.attar.quant.budget.BudgetPlan;
import dev.attar.quant.budget.SizeTarget;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.OptionalDouble;

/**
 * The types that were chosen for a size, as a {@link WorkFolder} keeps them: a line of file type and predicted divergence, then one of
 * type and name for each tensor.
 *
 * @param fileType what the file says that it is
 * @param types by name of the tensor
 * @param divergence what was predicted; empty if nothing was measured to predict it from
 */
record TypeChoice(FileType fileType, Map<String, TensorType> types, OptionalDouble divergence) {
  private static final String NOT_PREDICTED = "-";

  static TypeChoice of(BudgetPlan plan) {
    Map<String, TensorType> types = new LinkedHashMap<>();
    plan.choices().forEach(choice -> types.put(choice.tensor().name(), choice.type()));
    return new TypeChoice(plan.options().fileType(), types, plan.divergence());
  }

  /** Options with this choice. */
  QuantizeOptions applyTo(QuantizeOptions options, SizeTarget target) {
    return options.withChosen(fileType, new ChosenTypes(types, target.metadata()));
  }

  String text() {
    String predicted = divergence.isPresent() ? String.valueOf(divergence.getAsDouble()) : NOT_PREDICTED;
    StringBuilder text = new StringBuilder(fileType.name()).append(' ').append(predicted).append('\n');
    types.forEach((tensor, type) -> text.append(type.name()).append(' ').append(tensor).append('\n'));
    return text.toString();
  }

  /**
   * The choice that a text tells.
   *
   * @throws IllegalArgumentException if it tells none
   */
  static TypeChoice parse(String text) {
    List<String> lines = text.lines().toList();
    String[] first = words(lines.isEmpty() ? "" : lines.getFirst());
    FileType fileType = FileType.valueOf(first[0]);
    OptionalDouble divergence = first[1].equals(NOT_PREDICTED)
      ? OptionalDouble.empty()
      : OptionalDouble.of(Double.parseDouble(first[1]));
    Map<String, TensorType> types = new LinkedHashMap<>();
    for (String line : lines.subList(1, lines.size())) {
      String[] words = words(line);
      types.put(words[1], TensorType.valueOf(words[0]));
    }
    return new TypeChoice(fileType, types, divergence);
  }

  private static String[] words(String line) {
    String[] words = line.split(" ", 2);
    if (words.length < 2) {
      throw new IllegalArgumentException("'" + line + "', expected two words");
    }
    return words;
  }
}
