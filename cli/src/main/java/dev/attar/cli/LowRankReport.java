package dev.attar.cli;

import dev.attar.quant.QuantizationPlan;
import java.io.IOException;
import java.io.PrintStream;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;

/** Tells what a model of low rank has become, or would. */
final class LowRankReport {

  private final boolean written;
  private final QuantizationPlan plan;
  private final List<String> lines = new ArrayList<>();
  private final Map<String, Object> json = new LinkedHashMap<>();
  private final List<String> warnings = new ArrayList<>();
  private Optional<StructureReport> structure = Optional.empty();
  private Optional<Table> details = Optional.empty();
  private Optional<EqualBytes.Result> comparison = Optional.empty();

  /**
   * @param job what was to be made
   * @param written whether it was
   * @param plan the model, as it is written; the base of an adapter
   */
  LowRankReport(LowRankJob job, boolean written, QuantizationPlan plan) {
    this.written = written;
    this.plan = plan;
    json.put("model", job.model().source().toString());
    json.put("form", LowRankJob.word(job.wishes().form()));
    if (job.wishes().form() != LowRankForm.SHRINK) {
      json.put("method", job.wishes().metric().word());
    }
    json.put("asked", job.wishes().asked());
  }

  /** The model, as it is written. */
  QuantizationPlan plan() {
    return plan;
  }

  /** Whether it was written. */
  boolean isWritten() {
    return written;
  }

  /** Says something to people. */
  void addLine(String line) {
    lines.add(line);
  }

  /** Says something to programs. */
  void put(String key, Object value) {
    json.put(key, value);
  }

  /** Warns of something, one line. */
  void addWarning(String warning) {
    if (!warnings.contains(warning)) {
      warnings.add(warning);
    }
  }

  /** Says what was removed; its text stands before the lines. */
  void setStructure(StructureReport report) {
    structure = Optional.of(report);
    report.warnings().forEach(this::addWarning);
  }

  /** Has what is for those who want details. */
  void setDetails(Table table) {
    details = Optional.of(table);
  }

  /** Says how it compares with plain quantization. */
  void setComparison(EqualBytes.Result result) {
    comparison = Optional.of(result);
  }

  /** Tells what was made, or would be. */
  void print(Console console, MessageOptions messages, boolean quiet) throws IOException {
    printMade(console, messages, quiet);
    printCompared(console, messages, quiet);
  }

  /** Tells people what was made, or would be. */
  void printMade(Console console, MessageOptions messages, boolean quiet) throws IOException {
    if (!quiet || (!messages.json() && !written)) {
      if (written || !messages.json()) {
        printText(people(console, messages), messages.verbose());
      }
    }
    if (!quiet) {
      warnings.forEach(console::warn);
    }
  }

  private static PrintStream people(Console console, MessageOptions messages) {
    return messages.json() ? console.err() : console.out();
  }

  /** Tells people how it compares, if that was measured, and programs all. */
  void printCompared(Console console, MessageOptions messages, boolean quiet) throws IOException {
    if (comparison.isPresent() && !(quiet && messages.json())) {
      comparison.get().print(people(console, messages));
    }
    if (messages.json()) {
      Json.print(console.out(), json());
    }
  }

  private void printText(PrintStream people, boolean verbose) throws IOException {
    if (structure.isPresent()) {
      structure.get().printText(people, verbose);
    }
    for (int i = 0; i < lines.size(); i++) {
      people.println((i == 0 && structure.isEmpty() ? "" : "  ") + lines.get(i));
    }
    if (verbose && details.isPresent()) {
      details.get().print(people);
    }
  }

  private Map<String, Object> json() throws IOException {
    Map<String, Object> all = new LinkedHashMap<>(json);
    if (structure.isPresent()) {
      all.put("pruning", structure.get().json());
    }
    if (comparison.isPresent()) {
      all.put("comparison", comparison.get().json());
    }
    all.put("warnings", warnings);
    return all;
  }
}
