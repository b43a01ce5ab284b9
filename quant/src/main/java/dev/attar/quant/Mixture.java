package dev.attar.quant;

import static dev.attar.formats.TensorType.IQ2_S;
import static dev.attar.formats.TensorType.IQ2_XXS;
import static dev.attar.formats.TensorType.IQ3_S;
import static dev.attar.formats.TensorType.IQ3_XXS;
import static dev.attar.formats.TensorType.MXFP4;
import static dev.attar.formats.TensorType.Q2_K;
import static dev.attar.formats.TensorType.Q3_K;
import static dev.attar.formats.TensorType.Q4_1;
import static dev.attar.formats.TensorType.Q4_K;
import static dev.attar.formats.TensorType.Q5_1;
import static dev.attar.formats.TensorType.Q5_K;
import static dev.attar.formats.TensorType.Q6_K;
import static dev.attar.formats.TensorType.Q8_0;

import dev.attar.formats.TensorInfo;
import dev.attar.formats.TensorType;
import java.util.OptionalInt;

/**
 * The choice of each tensor's type within a file type: more bits where errors hurt most (the output, attention values, down
 * projections of the first and last layers), fewer elsewhere. The rules are llama-quantize's of llama.cpp v0.5.0.
 *
 * <p>Layers are counted by the tensors seen so far, so tensors must be asked for in llama-quantize's order ({@link TensorOrder}) and
 * each only once; a tensor whose type is given by the user is not asked for and not counted.
 */
final class Mixture {

  private final FileType fileType;
  private final Hyperparameters model;
  private final boolean importance;
  private final boolean tied;
  private final int valueTensors;

  private int valuesSeen;
  private int downSeen;
  private int gateSeen;
  private int upSeen;

  /**
   * @param fileType the mixture
   * @param model the model's numbers
   * @param importance whether an importance matrix is given
   * @param tied whether the model has no output tensor and uses the token embeddings in its place
   * @param valueTensors how many tensors of the model yield attention values
   */
  Mixture(FileType fileType, Hyperparameters model, boolean importance, boolean tied, int valueTensors) {
    this.fileType = fileType;
    this.model = model;
    this.importance = importance;
    this.tied = tied;
    this.valueTensors = valueTensors;
  }

  /**
   * The type of the next tensor. Whether its rows fit into the type's blocks is not looked at.
   *
   * @param outputType the type that the user wants for the output tensor, or {@code null}
   * @throws QuantizationException if the tensor's name has no layer number where the rules need one
   */
  TensorType choose(TensorInfo tensor, TensorRole role, TensorType outputType) throws QuantizationException {
    if (role == TensorRole.OUTPUT || (tied && role == TensorRole.TOKEN_EMBEDDING)) {
      return outputType != null ? outputType : output(tensor);
    }
    if (fileType == FileType.MXFP4_MOE) {
      return isExpert(tensor, role) ? MXFP4 : Q8_0;
    }
    if (role == TensorRole.TOKEN_EMBEDDING) {
      return tokenEmbedding();
    }
    return isLowBit() ? lowBit(role) : usual(tensor, role);
  }

  private TensorType output(TensorInfo tensor) {
    TensorType usual = fileType.defaultType();
    if (
      fileType == FileType.MXFP4_MOE ||
      model.isFalcon() ||
      tensor.rowLength() % usual.blockLength() != 0 ||
      usual == Q8_0
    ) {
      return Q8_0;
    }
    return isLowBit() || fileType == FileType.IQ3_XXS ? Q5_K : Q6_K;
  }

  private boolean isExpert(TensorInfo tensor, TensorRole role) {
    // BailingMoE 3 has three-dimensional projections in its attention too.
    boolean feedForward = role == TensorRole.FFN_UP || role == TensorRole.FFN_GATE || role == TensorRole.FFN_DOWN;
    return tensor.dimension(2) > 1 && (feedForward || !model.architecture().equals("bailingmoe3"));
  }

  private TensorType tokenEmbedding() {
    return switch (fileType) {
      case IQ2_XXS, IQ2_XS, IQ1_S, IQ1_M -> Q2_K;
      case IQ2_S, IQ2_M, IQ3_XXS -> IQ3_S;
      case TQ1_0, TQ2_0, Q2_0 -> Q4_K;
      default -> fileType.defaultType();
    };
  }

  private boolean isLowBit() {
    return switch (fileType) {
      case IQ1_S, IQ1_M, IQ2_XXS, IQ2_XS, IQ2_S, IQ2_M -> true;
      default -> false;
    };
  }

  private TensorType lowBit(TensorRole role) {
    TensorType raised = fileType == FileType.IQ2_S || fileType == FileType.IQ2_M ? IQ3_S : Q2_K;
    return switch (role) {
      case ATTENTION_V, ATTENTION_QKV, ATTENTION_KV_B -> {
        valuesSeen++;
        yield model.queriesPerKey() >= 4 || model.experts() >= 4 ? Q4_K : raised;
      }
      case ATTENTION_K -> model.experts() == 8 ? Q4_K : fileType.defaultType();
      case ATTENTION_OUTPUT -> {
        if (model.experts() == 8) {
          yield Q5_K;
        }
        yield switch (fileType) {
          case IQ1_S, IQ1_M -> IQ2_XXS;
          case IQ2_S, IQ2_M -> IQ3_S;
          default -> fileType.defaultType();
        };
      }
      case FFN_DOWN -> downSeen++ < model.layers() / 8 ? raised : fileType.defaultType();
      default -> fileType.defaultType();
    };
  }

  private TensorType usual(TensorInfo tensor, TensorRole role) throws QuantizationException {
    return switch (role) {
      case ATTENTION_V, ATTENTION_QKV, ATTENTION_KV_B -> attentionValues();
      case ATTENTION_K -> model.experts() == 8 ? Q8_0 : attentionQuery();
      case ATTENTION_Q -> attentionQuery();
      case ATTENTION_OUTPUT -> attentionOutput();
      case FFN_DOWN -> ffnDown(layer(tensor, downSeen++));
      case FFN_GATE -> ffnIn(layer(tensor, gateSeen++));
      case FFN_UP -> ffnIn(layer(tensor, upSeen++));
      default -> fileType.defaultType();
    };
  }

  private TensorType attentionValues() {
    int i = valuesSeen++;
    // Key/value heads shared by four or more query heads: the tensor is small and more bits cost little.
    boolean shared = model.queriesPerKey() >= 4;
    TensorType usual = fileType.defaultType();
    TensorType type = switch (fileType) {
      case Q2_K -> shared ? Q4_K : Q3_K;
      case IQ3_XXS -> shared ? Q4_K : importance ? IQ3_XXS : IQ3_S;
      case Q2_K_S, IQ3_XS, IQ3_S -> shared ? Q4_K : usual;
      case IQ3_M -> Q4_K;
      case Q3_K_M -> i < 2 ? Q5_K : Q4_K;
      case Q3_K_L -> Q5_K;
      case IQ4_NL, IQ4_XS -> shared ? Q5_K : usual;
      case Q4_K_S -> i < 4 ? Q5_K : usual;
      case Q4_K_M, Q5_K_M -> isSensitive(i, valueTensors) ? Q6_K : usual;
      default -> usual;
    };
    if (model.experts() == 8) {
      return Q8_0;
    }
    return model.llama70b() && (type == Q3_K || type == Q4_K) ? Q5_K : type;
  }

  private TensorType attentionQuery() {
    return switch (fileType) {
      case IQ3_XS -> IQ3_XXS;
      case IQ3_XXS -> IQ2_S;
      default -> fileType.defaultType();
    };
  }

  private TensorType attentionOutput() {
    TensorType usual = fileType.defaultType();
    if (model.isFalcon()) {
      return fileType == FileType.Q3_K_L ? Q4_K : usual;
    }
    if (model.experts() == 8) {
      return switch (fileType) {
        case Q2_K, IQ3_XXS, IQ3_XS, IQ3_S, IQ3_M, Q3_K_S, Q3_K_M, IQ4_NL, IQ4_XS, Q4_K_S, Q4_K_M -> Q5_K;
        default -> usual;
      };
    }
    return switch (fileType) {
      case Q2_K -> Q3_K;
      case IQ3_XXS -> IQ3_S;
      case Q3_K_M, IQ3_M -> Q4_K;
      case Q3_K_L -> Q5_K;
      default -> usual;
    };
  }

  private TensorType ffnDown(int i) {
    int n = model.layers();
    boolean falcon = model.isFalcon();
    boolean firstEighth = i < n / 8;
    TensorType usual = fileType.defaultType();
    return switch (fileType) {
      case Q2_K -> Q3_K;
      case Q2_K_S -> firstEighth ? Q4_K : usual;
      case IQ3_XXS -> importance ? usual : firstEighth ? Q4_K : Q3_K;
      case IQ3_M -> firstEighth || (model.experts() == 8 && isSensitive(i, n)) ? Q4_K : usual;
      case Q3_K_M -> i < n / 16 ? Q5_K : !falcon || isSensitive(i, n) ? Q4_K : usual;
      case Q3_K_L -> falcon ? Q4_K : Q5_K;
      case IQ4_NL, IQ4_XS -> firstEighth && !importance ? Q5_K : usual;
      case Q4_K_S -> firstEighth && !falcon ? Q5_K : usual;
      case Q4_K_M -> {
        if (falcon) {
          yield i < n / 16 ? Q6_K : isSensitive(i, n) ? Q5_K : usual;
        }
        yield isSensitive(i, n) ? Q6_K : usual;
      }
      case Q5_K_M -> isSensitive(i, n) ? Q6_K : usual;
      // With importance the first down projections can go astray in the forms without a minimum.
      case Q4_0 -> firstEighth && importance ? Q4_1 : usual;
      case Q5_0 -> firstEighth && importance ? Q5_1 : usual;
      default -> usual;
    };
  }

  private TensorType ffnIn(int i) {
    int n = model.layers();
    boolean middle = i >= n / 8 && i < (7 * n) / 8;
    return fileType == FileType.IQ3_XS && middle ? IQ3_XXS : fileType.defaultType();
  }

  /** The first and last eighth of the layers, and every third one between. */
  private static boolean isSensitive(int i, int n) {
    return i < n / 8 || i >= (7 * n) / 8 || (i - n / 8) % 3 == 2;
  }

  /** The layer of a feed-forward tensor: counted in dense models; by name with experts, which may be stored one by one. */
  private int layer(TensorInfo tensor, int counted) throws QuantizationException {
    if (model.experts() <= 1) {
      return counted;
    }
    OptionalInt named = TensorOrder.layer(tensor.name());
    if (named.isEmpty() || named.getAsInt() < 0 || named.getAsInt() >= model.layers()) {
      throw new QuantizationException(
        tensor.name() +
          ": no layer number below " +
          model.layers() +
          " in the name, which the mixture needs in a model with experts"
      );
    }
    return named.getAsInt();
  }
}
