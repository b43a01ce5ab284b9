package dev.attar.cli;

import dev.attar.lowrank.heads.HeadResult;
import dev.attar.lowrank.heads.HeadSize;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.OptionalDouble;

/**
 * Tells of heads that become smaller.
 *
 * @param before their size, in values
 * @param size what it becomes
 * @param asked the part of them that was asked for; empty if the size was
 * @param result what was found; empty if nothing was measured
 */
record HeadSummary(int before, int size, OptionalDouble asked, Optional<HeadResult> result) {
  /** For people. */
  List<String> lines() {
    List<String> lines = new ArrayList<>();
    lines.add(
      "heads of " +
        size +
        " values (from " +
        before +
        wish() +
        "): queries and keys have " +
        Text.plural(size / 2, "rotary pair") +
        " instead of " +
        before / 2 +
        result.map(found -> " and lose " + Text.percent(found.lostPairs()) + " of their squared products").orElse("")
    );
    result.ifPresent(found ->
      lines.add(
        "error of attention's outputs on the calibration text, by values of fewer dimensions: " +
          Text.number(loss(found), 3) +
          " of their square (mean of the layers), " +
          Text.plural(found.tokens(), "token")
      )
    );
    return lines;
  }

  /** What was asked for, if it is not what came out. */
  private String wish() {
    double part = (double) size / before;
    return asked.isEmpty() || Math.abs(part - asked.getAsDouble()) < 1e-9
      ? ""
      : ", " + Text.percent(part) + " of them, asked for " + Text.percent(asked.getAsDouble());
  }

  private static double loss(HeadResult found) {
    return found.layers().stream().mapToDouble(HeadResult.LayerReport::loss).average().orElse(0);
  }

  /** What the user should know, one line; empty for nothing. */
  Optional<String> warning() {
    return size % HeadSize.FAST == 0
      ? Optional.empty()
      : Optional.of(
          "heads of " +
            size +
            " values are no multiple of " +
            HeadSize.FAST +
            ": llama.cpp processes prompts several times as slowly with them on a processor"
        );
  }

  /** For programs. */
  Map<String, Object> json() {
    Map<String, Object> json = new LinkedHashMap<>();
    json.put("size_before", before);
    json.put("size", size);
    result.ifPresent(found -> {
      json.put("pairs", found.pairs());
      json.put("lost_pairs", found.lostPairs());
      json.put("loss", loss(found));
      json.put("tokens", found.tokens());
    });
    return json;
  }
}
