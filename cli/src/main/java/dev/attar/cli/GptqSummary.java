package dev.attar.cli;

import dev.attar.quant.gptq.GptqOptions;
import dev.attar.quant.gptq.GptqResult;
import dev.attar.quant.gptq.TensorReport;
import java.io.PrintStream;
import java.util.LinkedHashMap;
import java.util.Map;

/**
 * Tells what GPTQ has done.
 *
 * @param result what was done
 * @param options how
 */
record GptqSummary(GptqResult result, GptqOptions options) {
  /** Whether this tensor was quantized by GPTQ. */
  boolean contains(String tensor) {
    return result
      .tensors()
      .stream()
      .anyMatch(report -> report.name().equals(tensor));
  }

  /** In one line. */
  String line() {
    return line("GPTQ", "of importance-weighted rounding's");
  }

  /**
   * In one line.
   *
   * @param method what was done
   * @param than what the error is compared with
   */
  String line(String method, String than) {
    int tensors = result.tensors().size();
    return (
      method +
      ": error of the layers' outputs on the calibration text " +
      Text.number(result.errorRatio(), 3) +
      " " +
      than +
      " (geometric mean of " +
      Text.plural(tensors, "tensor") +
      "), " +
      (result.sequential() ? "sequential" : "static") +
      " statistics, " +
      Text.plural(result.tokens(), "token")
    );
  }

  /** A line for each tensor. */
  void printTensors(PrintStream out) {
    Table table = new Table(Table.Align.LEFT, Table.Align.LEFT, Table.Align.RIGHT, Table.Align.RIGHT);
    table.row("tensor", "type", "error ratio", "damping");
    for (TensorReport tensor : result.tensors()) {
      table.row(
        Text.escape(tensor.name()),
        tensor.type().toString(),
        Text.number(tensor.errorRatio(), 3),
        Text.number(tensor.damping(), 3)
      );
    }
    table.print(out);
  }

  /** For programs. */
  Map<String, Object> json() {
    Map<String, Object> json = new LinkedHashMap<>();
    json.put("error_ratio", result.errorRatio());
    json.put("sequential", result.sequential());
    json.put("tokens", result.tokens());
    json.put("context", options.context());
    json.put("effort", options.effort().level());
    json.put("damping", options.damping());
    json.put("tensors", result.tensors().stream().map(GptqSummary::json).toList());
    return json;
  }

  private static Map<String, Object> json(TensorReport tensor) {
    Map<String, Object> json = new LinkedHashMap<>();
    json.put("name", tensor.name());
    json.put("type", tensor.type().toString());
    json.put("error_ratio", tensor.errorRatio());
    json.put("damping", tensor.damping());
    return json;
  }
}
