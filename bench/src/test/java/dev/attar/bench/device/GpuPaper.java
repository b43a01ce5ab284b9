package dev.attar.bench.device;

import dev.attar.bench.device.Cost.Gpu;
import dev.attar.bench.device.Cost.Limit;
import dev.attar.quant.gptq.Effort;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;

/** The tables of {@code docs/gpu.md}: what GPTQ of Llama 3.1 8B costs an H100 at least. */
final class GpuPaper {

  private static final int LAYERS = 32;
  private static final int TOKENS = 65_536;
  private static final Gpu GPU = Gpu.H100;
  private static final Effort EFFORT = Effort.of(Effort.DEFAULT);

  private GpuPaper() {}

  /** An input of a layer and the rows of the weights that it meets. */
  record Input(String name, int columns, List<Integer> rows) {}

  static final List<Input> LAYER = List.of(
    new Input("attn_q, attn_k, attn_v", 4096, List.of(4096, 1024, 1024)),
    new Input("attn_output", 4096, List.of(4096)),
    new Input("ffn_gate, ffn_up", 4096, List.of(14_336, 14_336)),
    new Input("ffn_down", 14_336, List.of(4096))
  );

  /** The operations of one matrix (rows, columns). */
  static String operations(int rows, int columns) {
    List<Cost> costs = new ArrayList<>();
    costs.add(Cost.gram(TOKENS, columns));
    costs.addAll(Cost.preparing(columns));
    costs.addAll(Cost.quantizing(rows, columns, EFFORT));
    costs.addAll(Cost.pruning(rows, columns));
    StringBuilder table = new StringBuilder();
    table.append("| operation | link GB | memory GB | GFLOP | chain | floor ms | limit |\n");
    table.append("|---|---:|---:|---:|---:|---:|---|\n");
    for (Cost cost : costs) {
      Limit floor = cost.floor(GPU);
      table.append(
        String.format(
          Locale.ROOT,
          "| %s | %.2f | %.2f | %.1f | %s | %.2f | %s |\n",
          cost.operation(),
          cost.link() / 1e9,
          cost.bytes() / 1e9,
          cost.flops() / 1e9,
          chain(cost.chain()),
          1e3 * floor.seconds(),
          floor.name()
        )
      );
    }
    return table.toString();
  }

  private static String chain(double length) {
    return length == 0 ? "" : String.format(Locale.ROOT, "%,.0f", length);
  }

  /** The whole model. */
  static String model() {
    StringBuilder table = new StringBuilder();
    table.append("| input | columns | rows | Gram matrix ms | preparing ms | quantizing ms |\n");
    table.append("|---|---:|---:|---:|---:|---:|\n");
    double[] sums = new double[3];
    for (Input input : LAYER) {
      double gram = 1e3 * Cost.gram(TOKENS, input.columns).floor(GPU).seconds();
      double preparing = sum(Cost.preparing(input.columns));
      double quantizing = input.rows
        .stream()
        .mapToDouble(rows -> sum(Cost.quantizing(rows, input.columns, EFFORT)))
        .sum();
      String rows = String.join(" + ", input.rows.stream().map(String::valueOf).toList());
      table.append(
        String.format(
          Locale.ROOT,
          "| %s | %d | %s | %.1f | %.1f | %.1f |\n",
          input.name,
          input.columns,
          rows,
          gram,
          preparing,
          quantizing
        )
      );
      sums[0] += gram;
      sums[1] += preparing;
      sums[2] += quantizing;
    }
    table.append(String.format(Locale.ROOT, "| **a layer** | | | %.1f | %.1f | %.1f |\n", sums[0], sums[1], sums[2]));
    table.append(
      String.format(
        Locale.ROOT,
        "| **%d layers, s** | | | **%.1f** | **%.1f** | **%.1f** |\n",
        LAYERS,
        (LAYERS * sums[0]) / 1e3,
        (LAYERS * sums[1]) / 1e3,
        (LAYERS * sums[2]) / 1e3
      )
    );
    return table.toString();
  }

  private static double sum(List<Cost> costs) {
    return costs
      .stream()
      .mapToDouble(cost -> 1e3 * cost.floor(GPU).seconds())
      .sum();
  }

  /** All tables, by their headings. */
  static List<String> tables() {
    return List.of(operations(14_336, 4096), operations(4096, 14_336), model());
  }

  /** Prints the tables. */
  public static void main(String[] args) {
    tables().forEach(System.out::println);
  }
}
