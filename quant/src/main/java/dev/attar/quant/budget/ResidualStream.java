package dev.attar.quant.budget;

import dev.attar.formats.TensorInfo;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/**
 * How much each branch of a transformer adds to the residual stream. A block has two: what mixes tokens (attention, or what takes its
 * place) and the feed-forward network. An error of a branch's output matters by its part in the stream that it is added to, so the same
 * relative error is worth little in a branch that whispers. With the additions taken as independent, the energy of the stream is the sum
 * of the energies of the embedding and of all additions so far.
 */
final class ResidualStream {

  /**
   * An error fades somewhat on its way through a branch that itself dominates the stream, foremost in the first block. Of the powers of
   * the share that were tried on measured divergences of single tensors, this one left the least unexplained.
   */
  private static final double POWER = 0.75;

  private static final Pattern IN_BLOCK = Pattern.compile("blk\\.(\\d{1,9})\\.(.+)");
  private static final Pattern FEED_FORWARD = Pattern.compile("ffn_.*");
  private static final Pattern OUTPUT = Pattern.compile(
    "(attn_output|ssm_out|time_mix_output|shortconv\\.out_proj|ffn_down(_exps|_shexp|_chexps)?)\\.weight"
  );

  /** A branch; they are added to the stream in this order. */
  private record Branch(int block, boolean feedForward) implements Comparable<Branch> {
    static Branch of(TensorInfo tensor) {
      Matcher matcher = IN_BLOCK.matcher(tensor.name());
      return matcher.matches()
        ? new Branch(Integer.parseInt(matcher.group(1)), FEED_FORWARD.matcher(matcher.group(2)).matches())
        : null;
    }

    @Override
    public int compareTo(Branch other) {
      int order = Integer.compare(block, other.block);
      return order != 0 ? order : Boolean.compare(feedForward, other.feedForward);
    }
  }

  private ResidualStream() {}

  /**
   * What the relative errors of the tensors are to be weighed with, by name: a power of their branch's share in the stream. 1 outside
   * blocks; 1 for all if the output of a branch has not been measured.
   */
  static Map<String, Double> weights(List<TensorErrors> tensors) {
    Map<Branch, Double> energies = new TreeMap<>();
    Set<Branch> branches = new HashSet<>();
    double stream = 0;
    for (TensorErrors errors : tensors) {
      Branch branch = Branch.of(errors.tensor());
      if (branch != null) {
        branches.add(branch);
        if (errors.observed() && OUTPUT.matcher(lastPart(errors.name())).matches()) {
          energies.merge(branch, errors.energy(), Double::sum);
        }
      } else if (errors.name().equals("token_embd.weight") && !errors.observed()) {
        stream = errors.energy();
      }
    }
    Map<Branch, Double> shares = new HashMap<>();
    for (Map.Entry<Branch, Double> entry : energies.entrySet()) {
      stream += entry.getValue();
      shares.put(entry.getKey(), stream == 0 ? 1 : Math.pow(entry.getValue() / stream, POWER));
    }
    boolean known = shares.keySet().containsAll(branches);
    Map<String, Double> weights = new HashMap<>();
    for (TensorErrors errors : tensors) {
      Branch branch = Branch.of(errors.tensor());
      weights.put(errors.name(), branch == null || !known ? 1 : shares.get(branch));
    }
    return weights;
  }

  private static String lastPart(String name) {
    Matcher matcher = IN_BLOCK.matcher(name);
    return matcher.matches() ? matcher.group(2) : name;
  }
}
