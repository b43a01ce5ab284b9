package dev.attar.cli;

import dev.attar.lowrank.FactoredTensor;
import dev.attar.lowrank.Factorization;
import dev.attar.lowrank.Metric;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;

/**
 * Tells of factors.
 *
 * @param factors what was found
 * @param metric what was kept small
 * @param ofError whether it is the error of a base that was factorized
 * @param damping what was to be added to the diagonals of Gram matrices
 */
record RankSummary(Factorization factors, Metric metric, boolean ofError, double damping) {
  /** Of tensors that are kept as they are, or lose nothing. */
  private static final double LEAST_LOSS = 1e-12;

  private int[] ranks() {
    return factors.tensors().stream().mapToInt(FactoredTensor::rank).sorted().toArray();
  }

  private double median() {
    int[] ranks = ranks();
    int n = ranks.length;
    return n == 0 ? 0 : (ranks[(n - 1) / 2] + ranks[n / 2]) / 2.0;
  }

  /** The geometric mean of what the tensors lose; of those that have something to lose. */
  double loss() {
    return Math.exp(
      factors
        .tensors()
        .stream()
        .filter(tensor -> tensor.energy() > 0)
        .mapToDouble(tensor -> Math.log(Math.max(tensor.loss(), LEAST_LOSS)))
        .average()
        .orElse(Math.log(LEAST_LOSS))
    );
  }

  /** For people. */
  List<String> lines() {
    List<String> lines = new ArrayList<>();
    int[] ranks = ranks();
    int tensors = ranks.length;
    String span = tensors == 0
      ? ""
      : ranks[0] == ranks[tensors - 1]
        ? " of rank " + ranks[0]
        : ", ranks " + ranks[0] + " to " + ranks[tensors - 1] + ", median " + Text.plain(median());
    int whole = factors.whole().size();
    lines.add(
      "products for " +
        Text.plural(tensors, "tensor") +
        span +
        (whole == 0 ? "" : "; " + Text.plural(whole, "tensor") + " whole, since factors would be no smaller")
    );
    String what = metric == Metric.PLAIN ? "the weights" : "the layers' outputs on the calibration text";
    lines.add(
      "squared error of " +
        what +
        ": " +
        Text.number(loss(), 3) +
        (ofError ? " of the base's" : " of their square") +
        " (geometric mean of " +
        Text.plural(tensors, "tensor") +
        ")" +
        (factors.tokens() == 0 ? "" : ", " + Text.plural(factors.tokens(), "token"))
    );
    return lines;
  }

  /** What the user should know of matrices that had to be damped more than wished, one line; empty for nothing. */
  Optional<String> warning() {
    List<FactoredTensor> damped = factors.tensors().stream().filter(this::isDampedMore).toList();
    if (damped.isEmpty()) {
      return Optional.empty();
    }
    double most = damped.stream().mapToDouble(FactoredTensor::damping).max().orElseThrow();
    return Optional.of(
      "the Gram matrices of " +
        Text.plural(damped.size(), "tensor") +
        " were not positive definite and were damped more, by up to " +
        Text.number(most, 3) +
        " of their mean diagonal instead of " +
        Text.plain(damping) +
        ": more --calibration-tokens help"
    );
  }

  private boolean isDampedMore(FactoredTensor tensor) {
    return tensor.damping() > damping * (1 + 1e-6);
  }

  /** A line for each tensor. */
  Table table() {
    Table.Align right = Table.Align.RIGHT;
    Table table = new Table(Table.Align.LEFT, Table.Align.LEFT, right, right, right);
    table.row("tensor", "shape", "rank", "loss", "damping");
    for (FactoredTensor tensor : factors.tensors()) {
      table.row(
        Text.escape(tensor.source().name()),
        tensor.source().shapeText(),
        Integer.toString(tensor.rank()),
        Text.number(tensor.loss(), 3),
        tensor.damping() == 0 ? "" : Text.number(tensor.damping(), 3)
      );
    }
    factors.whole().forEach(tensor -> table.row(Text.escape(tensor.name()), tensor.shapeText(), "whole", "", ""));
    return table;
  }

  /** For programs. */
  Map<String, Object> json() {
    Map<String, Object> json = new LinkedHashMap<>();
    int[] ranks = ranks();
    json.put("least", Arrays.stream(ranks).min().orElse(0));
    json.put("median", median());
    json.put("most", Arrays.stream(ranks).max().orElse(0));
    json.put("whole", factors.whole().size());
    json.put("loss", loss());
    json.put("tokens", factors.tokens());
    json.put("numbers_before", factors.numbersBefore());
    json.put("numbers", factors.numbersAfter());
    json.put("tensors", factors.tensors().stream().map(RankSummary::json).toList());
    return json;
  }

  private static Map<String, Object> json(FactoredTensor tensor) {
    Map<String, Object> json = new LinkedHashMap<>();
    json.put("name", tensor.source().name());
    json.put("shape", tensor.source().shape());
    json.put("rank", tensor.rank());
    json.put("loss", tensor.loss());
    json.put("damping", tensor.damping());
    return json;
  }
}
