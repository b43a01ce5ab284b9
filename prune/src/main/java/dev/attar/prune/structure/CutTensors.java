package dev.attar.prune.structure;

import dev.attar.formats.Model;
import dev.attar.formats.RoundedTensor;
import dev.attar.formats.Tensor;
import dev.attar.formats.TensorInfo;
import dev.attar.prune.PruneException;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.stream.IntStream;

/** Cuts the tensors of a model. */
final class CutTensors {

  private static final ValueLayout.OfFloat FLOAT = ValueLayout.JAVA_FLOAT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);

  private final Anatomy anatomy;
  private final boolean interleaves;
  private final Map<String, MemorySegment> refitted;

  /** The layers that are left, by their numbers in the source. */
  private final Map<Integer, Left> left = new HashMap<>();

  /**
   * A layer that is left.
   *
   * @param layer what of it
   * @param number its new number
   */
  private record Left(Cut.Layer layer, int number) {}

  /**
   * @param converts whether the architecture becomes {@link Families#NON_UNIFORM}
   */
  CutTensors(Anatomy anatomy, Cut cut, boolean converts, Map<String, MemorySegment> refitted) {
    this.anatomy = anatomy;
    this.interleaves = converts && Families.rotatesHalves(anatomy.architecture());
    this.refitted = refitted;
    for (int i = 0; i < cut.layers().size(); i++) {
      left.put(cut.layers().get(i).number(), new Left(cut.layers().get(i), i));
    }
  }

  /**
   * What is left of all tensors.
   *
   * @throws PruneException if a layer without heads has what would remain of attention
   */
  List<Tensor> of(Model model) throws PruneException {
    List<Tensor> out = new ArrayList<>();
    Set<String> unused = new HashSet<>(refitted.keySet());
    for (Tensor tensor : model.tensors()) {
      String name = tensor.info().name();
      Tensor cut = cut(tensor);
      MemorySegment values = refitted.get(name);
      if (cut != null && values != null && canBeFitted(name, cut)) {
        cut = fitted(cut.info(), values);
        unused.remove(name);
      }
      if (cut != null) {
        out.add(cut);
      }
    }
    if (!unused.isEmpty()) {
      throw new IllegalArgumentException("new values of " + unused + ", which are not left or not in their old order");
    }
    return out;
  }

  /**
   * New values in the place of a tensor.
   *
   * @param like that one, as the cut leaves it
   * @param values little-endian float32 of its shape
   */
  private static Tensor fitted(TensorInfo like, MemorySegment values) {
    if (values.byteSize() != Float.BYTES * like.elements()) {
      throw new IllegalArgumentException(
        like + ": " + values.byteSize() + " bytes of new values, expected " + Float.BYTES * like.elements()
      );
    }
    long rowBytes = Float.BYTES * like.rowLength();
    return new RoundedTensor(like.withType(RoundedTensor.type(like.type())), (first, _, to) ->
      MemorySegment.copy(values, FLOAT, first * rowBytes, to, 0, to.length)
    );
  }

  private boolean canBeFitted(String name, Tensor cut) {
    boolean permuted = interleaves && (name.contains(".attn_q.") || name.contains(".attn_k."));
    return !permuted && !(cut instanceof ZeroTensor);
  }

  /** What is left of a tensor; {@code null} if nothing is. */
  private Tensor cut(Tensor tensor) throws PruneException {
    LayerTensor place = LayerTensor.of(tensor.info().name()).orElse(null);
    if (place == null) {
      return tensor;
    }
    Left here = left.get(place.layer());
    if (here == null) {
      return null;
    }
    String name = new LayerTensor(here.number, place.part()).name();
    Anatomy.Part part = anatomy.part(here.layer);
    int[] groups = here.layer.groups();
    if (groups.length == 0 && part.groups() > 0 && place.isAttention()) {
      if (place.part().equals("attn_output.bias")) {
        throw new PruneException(
          anatomy.obstacles().model() +
            ": " +
            tensor.info().name() +
            " is added whether there are heads or not, llama.cpp has no layer with it and without heads"
        );
      }
      return null;
    }
    int[] chosen = chosen(place.part(), part, here.layer);
    if (chosen == null || isWhole(chosen, tensor.info(), place.part())) {
      return SelectedTensor.renamed(tensor, name);
    }
    if (chosen.length == 0) {
      return zeros(tensor.info(), name, place.part());
    }
    return hasColumns(place.part())
      ? SelectedTensor.columns(tensor, name, chosen)
      : SelectedTensor.rows(tensor, name, chosen);
  }

  /** Which rows or columns of a tensor are left; {@code null} if nothing of it is cut. */
  private int[] chosen(String what, Anatomy.Part part, Cut.Layer layer) {
    if ((what.startsWith("attn_") ? part.groups() : part.neurons()) == 0) {
      return null;
    }
    return switch (what) {
      case "ffn_gate.weight", "ffn_gate.bias", "ffn_up.weight", "ffn_up.bias", "ffn_down.weight" -> layer.neurons();
      case "attn_q.weight", "attn_q.bias" -> inOrder(part.queries(layer.groups()), part.headSize());
      case "attn_k.weight", "attn_k.bias" -> inOrder(part.keys(layer.groups()), part.headSize());
      case "attn_v.weight", "attn_v.bias" -> part.keys(layer.groups());
      case "attn_output.weight" -> part.queries(layer.groups());
      default -> null;
    };
  }

  /** Whether columns are cut, or values of a vector, and not rows. */
  private static boolean hasColumns(String what) {
    return what.equals("ffn_down.weight") || what.equals("attn_output.weight") || what.endsWith(".bias");
  }

  private static boolean isWhole(int[] chosen, TensorInfo info, String what) {
    return (
      chosen.length == info.dimension(hasColumns(what) ? 0 : 1) &&
      IntStream.range(0, chosen.length).allMatch(i -> chosen[i] == i)
    );
  }

  /** A tensor of neurons that do nothing. */
  private static Tensor zeros(TensorInfo info, String name, String what) {
    long[] shape = info.shape().clone();
    shape[hasColumns(what) ? 0 : 1] = CutMetadata.LEAST_WIDTH;
    return new ZeroTensor(new TensorInfo(name, SelectedTensor.plainType(info.type()), shape));
  }

  /**
   * The rows of heads in the order that is wanted: as they are, or with rotary halves interleaved. Within each head of {@code n}, the
   * row {@code 2 i + j} of the result is the row {@code j n/2 + i}.
   */
  private int[] inOrder(int[] rows, int headSize) {
    if (!interleaves) {
      return rows;
    }
    int[] out = new int[rows.length];
    Arrays.setAll(out, at -> {
      int within = at % headSize;
      return rows[at - within + (within % 2) * (headSize / 2) + within / 2];
    });
    return out;
  }
}
