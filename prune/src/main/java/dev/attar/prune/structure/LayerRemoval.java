package dev.attar.prune.structure;

import dev.attar.calibration.DivergenceMeter;
import dev.attar.formats.Model;
import dev.attar.prune.structure.StructureResult.LayerReport;
import java.io.IOException;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import java.util.Map;
import java.util.stream.IntStream;

/** Removes whole layers, one after the other: of those of least influence the one whose removal is measured to harm least. */
final class LayerRemoval {

  /** How many are measured in each step. */
  private static final int CANDIDATES = 5;

  /** A model of so few layers has all of them measured. */
  private static final int FEW_LAYERS = 12;

  private LayerRemoval() {}

  /**
   * Chooses.
   *
   * @param whole the cut that leaves everything
   * @param influence of each layer
   * @param count how many layers go
   * @return what is left, and a report for each layer of the model
   */
  static Chosen run(
    Model model,
    Cut whole,
    double[] influence,
    int count,
    DivergenceMeter meter,
    StructureListener listener
  ) throws IOException, InterruptedException {
    int all = influence.length;
    int[] steps = new int[all];
    double[] divergences = IntStream.range(0, all)
      .mapToDouble(_ -> Double.NaN)
      .toArray();
    Cut cut = whole;
    for (int step = 1; step <= count; step++) {
      if (Thread.interrupted()) {
        throw new InterruptedException();
      }
      listener.at("removing layers", step - 1, count, "layers");
      int[] candidates = candidates(cut, influence);
      List<Cut> cuts = new ArrayList<>();
      List<Model> models = new ArrayList<>();
      List<String> names = new ArrayList<>();
      for (int candidate : candidates) {
        Cut without = without(cut, candidate);
        cuts.add(without);
        models.add(CutModel.of(model, without, Map.of()));
        names.add("without layer " + candidate + (step == 1 ? "" : " and " + (step - 1) + " more"));
      }
      double[] measured = meter.measure(models, names);
      int best = 0;
      for (int i = 1; i < measured.length; i++) {
        // Candidates come by influence: of equal ones the least.
        best = measured[i] < measured[best] ? i : best;
      }
      cut = cuts.get(best);
      steps[candidates[best]] = step;
      divergences[candidates[best]] = measured[best];
    }
    listener.at("removing layers", count, count, "layers");
    List<LayerReport> reports = new ArrayList<>();
    for (int i = 0; i < all; i++) {
      reports.add(new LayerReport(i, influence[i], Double.NaN, Double.NaN, steps[i], divergences[i]));
    }
    return new Chosen(cut, reports);
  }

  /** What was chosen. */
  record Chosen(Cut cut, List<LayerReport> reports) {}

  private static int[] candidates(Cut cut, double[] influence) {
    int most = influence.length <= FEW_LAYERS ? FEW_LAYERS : CANDIDATES;
    return cut
      .layers()
      .stream()
      .map(Cut.Layer::number)
      .sorted(Comparator.comparingDouble((Integer number) -> influence[number]).thenComparing(number -> number))
      .limit(most)
      .mapToInt(Integer::intValue)
      .toArray();
  }

  private static Cut without(Cut cut, int number) {
    return new Cut(
      cut
        .layers()
        .stream()
        .filter(layer -> layer.number() != number)
        .toList()
    );
  }
}
