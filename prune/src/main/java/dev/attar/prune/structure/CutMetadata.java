package dev.attar.prune.structure;

import dev.attar.formats.Metadata;
import dev.attar.formats.MetadataValue;
import dev.attar.formats.MetadataValue.Type;
import dev.attar.formats.Model;
import dev.attar.formats.Tensor;
import dev.attar.formats.architecture.SizeLabel;
import dev.attar.prune.PruneException;
import java.lang.reflect.Array;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.function.ToIntBiFunction;
import java.util.function.ToIntFunction;

/** What the metadata say of what a cut leaves. */
final class CutMetadata {

  /** A layer that is to have no neurons has so many, all zero: without any, llama.cpp would drop what its attention adds. */
  static final int LEAST_WIDTH = 32;

  private static final String BLOCKS = "block_count";
  private static final String WIDTH = "feed_forward_length";
  private static final String HEADS = "attention.head_count";
  private static final String GROUPS = "attention.head_count_kv";
  private static final List<String> HEAD_SIZES = List.of("attention.key_length", "attention.value_length");
  private static final String OWN = "attar.prune.";

  /** Lists that are not about layers, though they may be as long. */
  private static final Set<String> NOT_PER_LAYER = Set.of("rope.dimension_sections", "classifier.output_labels");

  private static final int UNTOUCHED = -1;

  private final Metadata source;
  private final Anatomy anatomy;
  private final Cut cut;
  private final String prefix;
  private final boolean headsChange;
  private final boolean converts;

  /** The numbers that the cut may change, for the layers that are left, by their keys without the prefix. */
  private final Map<String, PerLayer> numbers = new HashMap<>();

  /**
   * @throws PruneException if llama.cpp would not run what is left
   */
  CutMetadata(Model model, Anatomy anatomy, Cut cut) throws PruneException {
    source = model.metadata();
    this.anatomy = anatomy;
    this.cut = cut;
    prefix = anatomy.architecture() + ".";
    headsChange = cut
      .layers()
      .stream()
      .anyMatch(layer -> layer.groups().length != anatomy.part(layer).groups());
    put(WIDTH, WIDTH, (part, layer) -> layer.neurons().length == part.neurons() ? UNTOUCHED : width(layer));
    put(HEADS, HEADS, (part, layer) ->
      layer.groups().length == part.groups() ? UNTOUCHED : layer.groups().length * part.headsPerGroup()
    );
    boolean stated = source.get(prefix + GROUPS).isPresent();
    if (stated || headsChange) {
      put(GROUPS, stated ? GROUPS : HEADS, (part, layer) ->
        layer.groups().length == part.groups() ? UNTOUCHED : layer.groups().length
      );
    }
    boolean fits =
      numbers.values().stream().allMatch(PerLayer::fits) &&
      !(headsChange && Families.obstacleToOtherWidths(anatomy.architecture()) != null);
    converts = !fits && !anatomy.architecture().equals(Families.NON_UNIFORM);
    if (converts) {
      anatomy.requireConvertible();
    }
    requireAttention();
  }

  /**
   * Reads a number and corrects it.
   *
   * @param from the key that it is read from
   * @param changed what a layer has of it after the cut, or {@link #UNTOUCHED}
   */
  private void put(String key, String from, ToIntBiFunction<Anatomy.Part, Cut.Layer> changed) throws PruneException {
    String name = anatomy.obstacles().model();
    Optional<PerLayer> before = PerLayer.read(name, source, prefix + from, anatomy.layers().size());
    if (before.isPresent()) {
      int[] values = ints(layer -> {
        int now = changed.applyAsInt(anatomy.part(layer), layer);
        return now == UNTOUCHED ? before.get().values()[layer.number()] : now;
      });
      numbers.put(key, before.get().with(values));
    }
  }

  private static int width(Cut.Layer layer) {
    return layer.neurons().length == 0 ? LEAST_WIDTH : layer.neurons().length;
  }

  private int[] ints(ToIntFunction<Cut.Layer> value) {
    return cut.layers().stream().mapToInt(value).toArray();
  }

  /** Where numbers of heads may differ, llama.cpp takes those of the first layer for what all have. */
  private void requireAttention() throws PruneException {
    for (String key : List.of(HEADS, GROUPS)) {
      if (numbers.containsKey(key) && numbers.get(key).values()[0] == 0) {
        throw new PruneException(
          anatomy.obstacles().model() +
            ": layer " +
            cut.layers().getFirst().number() +
            ", the first that is left, has no heads, llama.cpp needs some there"
        );
      }
    }
  }

  /** Whether the architecture becomes {@link Families#NON_UNIFORM}. */
  boolean converts() {
    return converts;
  }

  /**
   * The metadata.
   *
   * @param tensors what is left
   */
  Metadata of(List<Tensor> tensors) {
    String newPrefix = converts ? Families.NON_UNIFORM + "." : prefix;
    Map<String, MetadataValue> out = new LinkedHashMap<>();
    source
      .values()
      .forEach((key, value) -> {
        if (key.startsWith(prefix)) {
          String rest = key.substring(prefix.length());
          out.put(newPrefix + rest, ofArchitecture(rest, value));
        } else if (!key.startsWith(OWN)) {
          // What an earlier cut wrote about itself is about another source.
          out.put(key, value);
        }
      });
    numbers.forEach((key, number) -> out.put(newPrefix + key, number.value()));
    if (headsChange || converts) {
      // Otherwise it would be the embedding's width over the number of heads of the first layer.
      anatomy
        .layers()
        .stream()
        .filter(part -> part.headSize() > 0)
        .findFirst()
        .ifPresent(part ->
          HEAD_SIZES.forEach(key -> out.putIfAbsent(newPrefix + key, MetadataValue.uint32(part.headSize())))
        );
    }
    out.computeIfPresent("general.size_label", (_, _) -> MetadataValue.string(SizeLabel.of(tensors)));
    if (converts) {
      out.put("general.architecture", MetadataValue.string(Families.NON_UNIFORM));
    }
    out.put(OWN + "layers", MetadataValue.int32s(cut.numbers()));
    if (
      anatomy
        .layers()
        .stream()
        .anyMatch(part -> part.neurons() > 0)
    ) {
      out.put(OWN + "neurons", MetadataValue.int32s(ints(layer -> layer.neurons().length)));
    }
    if (
      anatomy
        .layers()
        .stream()
        .anyMatch(part -> part.groups() > 0)
    ) {
      out.put(OWN + "groups", MetadataValue.int32s(ints(layer -> layer.groups().length)));
    }
    return Metadata.of(out);
  }

  /** A value of the architecture's for the layers that are left. */
  private MetadataValue ofArchitecture(String key, MetadataValue value) {
    if (key.equals(BLOCKS)) {
      return new MetadataValue(value.type(), null, (long) cut.layers().size());
    }
    boolean perLayer =
      value.type() == Type.ARRAY && value.length() == anatomy.layers().size() && !NOT_PER_LAYER.contains(key);
    return perLayer ? select(value) : value;
  }

  private MetadataValue select(MetadataValue list) {
    int[] kept = cut.numbers();
    Object selected = Array.newInstance(list.value().getClass().getComponentType(), kept.length);
    for (int i = 0; i < kept.length; i++) {
      Array.set(selected, i, Array.get(list.value(), kept[i]));
    }
    return new MetadataValue(Type.ARRAY, list.elementType(), selected);
  }
}
