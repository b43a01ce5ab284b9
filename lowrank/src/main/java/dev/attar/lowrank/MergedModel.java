package dev.attar.lowrank;

import dev.attar.formats.DerivedModel;
import dev.attar.formats.Metadata;
import dev.attar.formats.MetadataValue;
import dev.attar.formats.Model;
import dev.attar.formats.Tensor;
import dev.attar.formats.adapter.LoraAdapter;
import dev.attar.formats.adapter.LoraTensor;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;

/** A model with LoRA adapters added to its weights: W + Σ scale · alpha / rank · B A (Hu et al., 2021, section 4.1). */
public final class MergedModel {

  private static final String ADAPTERS = "attar.merge.adapters";
  private static final String SCALES = "attar.merge.scales";

  private MergedModel() {}

  /**
   * An adapter and how strong it is to be.
   *
   * @param adapter opened for the base
   * @param scale what its products are multiplied by beyond what the adapter itself says; finite
   */
  public record Scaled(LoraAdapter adapter, float scale) {
    public Scaled {
      if (!Float.isFinite(scale)) {
        throw new IllegalArgumentException("scale " + scale + ", expected a finite number");
      }
    }
  }

  /**
   * Presents it. Rows are computed as they are asked for, by any thread. Tensors that an adapter changes keep their type if it is a plain
   * one, and become F16 otherwise; others keep their bytes. {@code attar.merge.adapters} and {@code attar.merge.scales} say what was
   * added, after what was before.
   *
   * @param base the model, which must stay open, as the adapters; closing the result leaves them open
   * @param adapters what is added
   * @throws IllegalArgumentException if an adapter was opened for a model with other tensors
   */
  public static Model of(Model base, List<Scaled> adapters) {
    Map<String, List<Product>> products = new HashMap<>();
    for (Scaled scaled : adapters) {
      for (LoraTensor tensor : scaled.adapter.tensors()) {
        String name = tensor.target().name();
        products
          .computeIfAbsent(name, _ -> new ArrayList<>())
          .add(new Product(tensor.a(), tensor.b(), tensor.rank(), scaled.scale * tensor.scale()));
      }
    }
    List<Tensor> tensors = new ArrayList<>();
    for (Tensor tensor : base.tensors()) {
      List<Product> added = products.remove(tensor.info().name());
      tensors.add(added == null ? tensor : ProductTensor.of(tensor.info(), Optional.of(tensor), added));
    }
    if (!products.isEmpty()) {
      throw new IllegalArgumentException("adapters for " + products.keySet() + ", which the model does not have");
    }
    return new DerivedModel(base, metadata(base.metadata(), adapters), tensors);
  }

  private static Metadata metadata(Metadata base, List<Scaled> adapters) {
    List<String> names = new ArrayList<>();
    List<Float> scales = new ArrayList<>();
    if (
      base.get(ADAPTERS).map(MetadataValue::value).orElse(null) instanceof String[] before &&
      base.get(SCALES).map(MetadataValue::value).orElse(null) instanceof float[] theirs
    ) {
      names.addAll(List.of(before));
      for (float scale : theirs) {
        scales.add(scale);
      }
    }
    for (Scaled scaled : adapters) {
      names.add(String.valueOf(scaled.adapter.source().getFileName()));
      scales.add(scaled.scale);
    }
    float[] all = new float[scales.size()];
    for (int i = 0; i < all.length; i++) {
      all[i] = scales.get(i);
    }
    return base.with(ADAPTERS, MetadataValue.strings(names)).with(SCALES, MetadataValue.float32s(all));
  }
}
