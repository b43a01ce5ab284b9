package dev.attar.compute;

import dev.attar.compute.TeacherRows.Logits;
import dev.attar.compute.TeacherRows.Top;

/**
 * Checks what a device's {@link TransformerOperations} are asked for, as {@link CheckedDevice} does. Methods that end with {@code Checked}
 * compute: shapes fit, matrices are the device's and open, results are apart from what they are computed from but where the operation
 * allows it, tokens are in range.
 *
 * @param <M> the device's matrices
 */
public abstract class CheckedTransformer<M extends DeviceMatrix> implements TransformerOperations {

  private final CheckedDevice<M> device;

  protected CheckedTransformer(CheckedDevice<M> device) {
    this.device = device;
  }

  @Override
  public final void embed(int[] tokens, Matrix table, Matrix out) {
    M rows = own("embed", "the table", table);
    M result = own("embed", "the result", out);
    checkShape("embed", "the result", result, tokens.length, rows.columns());
    checkApart("embed", "the result", result, "the table", rows);
    checkTokens("embed", "token", tokens, 0, rows.rows());
    embedChecked(tokens, rows, result);
  }

  @Override
  public final void embedGradient(int[] tokens, Matrix outGradient, Matrix tableGradient) {
    M from = own("embedGradient", "outGradient", outGradient);
    M to = own("embedGradient", "tableGradient", tableGradient);
    checkShape("embedGradient", "outGradient", from, tokens.length, to.columns());
    checkApart("embedGradient", "tableGradient", to, "outGradient", from);
    checkTokens("embedGradient", "token", tokens, 0, to.rows());
    embedGradientChecked(tokens, from, to);
  }

  @Override
  public final void addBias(Matrix bias, Matrix to) {
    M row = own("addBias", "bias", bias);
    M result = own("addBias", "the result", to);
    checkShape("addBias", "bias", row, 1, result.columns());
    checkApart("addBias", "the result", result, "bias", row);
    addBiasChecked(row, result);
  }

  @Override
  public final void addBiasGradient(Matrix outGradient, Matrix biasGradient) {
    M from = own("addBiasGradient", "outGradient", outGradient);
    M to = own("addBiasGradient", "biasGradient", biasGradient);
    checkShape("addBiasGradient", "biasGradient", to, 1, from.columns());
    checkApart("addBiasGradient", "biasGradient", to, "outGradient", from);
    addBiasGradientChecked(from, to);
  }

  @Override
  public final void rmsNorm(Matrix x, Matrix weight, float epsilon, Matrix out) {
    M from = own("rmsNorm", "x", x);
    M factors = own("rmsNorm", "the weight", weight);
    M result = own("rmsNorm", "the result", out);
    checkNorm("rmsNorm", from, factors, epsilon);
    checkSame("rmsNorm", "the result", result, from);
    checkApartOrSame("rmsNorm", "the result", result, "x", from);
    checkApart("rmsNorm", "the result", result, "the weight", factors);
    rmsNormChecked(from, factors, epsilon, result);
  }

  @Override
  public final void rmsNormGradient(
    Matrix x,
    Matrix weight,
    float epsilon,
    Matrix outGradient,
    boolean add,
    Matrix xGradient,
    Matrix weightGradient
  ) {
    String name = "rmsNormGradient";
    M from = own(name, "x", x);
    M factors = own(name, "the weight", weight);
    M given = own(name, "outGradient", outGradient);
    M result = own(name, "xGradient", xGradient);
    M factorResult = own(name, "weightGradient", weightGradient);
    checkNorm(name, from, factors, epsilon);
    checkSame(name, "outGradient", given, from);
    checkSame(name, "xGradient", result, from);
    checkSame(name, "weightGradient", factorResult, factors);
    checkApart(name, "xGradient", result, "x", from);
    checkApart(name, "xGradient", result, "the weight", factors);
    if (add) {
      checkApart(name, "xGradient", result, "outGradient", given);
    } else {
      checkApartOrSame(name, "xGradient", result, "outGradient", given);
    }
    checkApart(name, "weightGradient", factorResult, "x", from);
    checkApart(name, "weightGradient", factorResult, "the weight", factors);
    checkApart(name, "weightGradient", factorResult, "outGradient", given);
    checkApart(name, "weightGradient", factorResult, "xGradient", result);
    rmsNormGradientChecked(from, factors, epsilon, given, add, result, factorResult);
  }

  private void checkNorm(String operation, M x, M weight, float epsilon) {
    if (!(epsilon > 0)) {
      throw new IllegalArgumentException(operation + ": epsilon " + epsilon + ", expected above 0");
    }
    checkShape(operation, "the weight", weight, 1, weight.columns());
    checkDivides(operation, "the weight's length", weight.columns(), "columns", x.columns());
  }

  @Override
  public final void rotate(Matrix x, int headSize, Matrix angles, boolean neighbours, boolean back) {
    M matrix = own("rotate", "x", x);
    M table = own("rotate", "angles", angles);
    checkDivides("rotate", "the size of a head", headSize, "columns", matrix.columns());
    checkDivides("rotate", "the length of a sequence", table.rows(), "rows", matrix.rows());
    if (table.columns() % 2 != 0 || table.columns() > headSize) {
      throw new IllegalArgumentException(
        "rotate: angles is %s, expected an even number of columns up to %d".formatted(
          CheckedDevice.shape(table),
          headSize
        )
      );
    }
    checkApart("rotate", "x", matrix, "angles", table);
    rotateChecked(matrix, headSize, table, neighbours, back);
  }

  @Override
  public final void attend(Matrix q, Matrix k, Matrix v, AttentionShape shape, Matrix out, Matrix logSums) {
    M queries = own("attend", "q", q);
    M keys = own("attend", "k", k);
    M values = own("attend", "v", v);
    M result = own("attend", "the result", out);
    M sums = own("attend", "logSums", logSums);
    checkAttention("attend", queries, keys, values, shape, result, sums);
    checkApartFromAll("attend", "the result", result, queries, keys, values, sums);
    checkApartFromAll("attend", "logSums", sums, queries, keys, values);
    attendChecked(queries, keys, values, shape, result, sums);
  }

  private void checkAttention(String operation, M q, M k, M v, AttentionShape shape, M out, M logSums) {
    int columns = shape.groups() * shape.size();
    checkDivides(operation, "the length of a sequence", shape.length(), "rows", q.rows());
    checkShape(operation, "q", q, q.rows(), shape.heads() * shape.size());
    checkShape(operation, "k", k, q.rows(), columns);
    checkShape(operation, "v", v, q.rows(), columns);
    checkSame(operation, "out", out, q);
    checkShape(operation, "logSums", logSums, q.rows(), shape.heads());
  }

  @Override
  public final void attendGradient(
    Matrix q,
    Matrix k,
    Matrix v,
    AttentionShape shape,
    Matrix out,
    Matrix logSums,
    Matrix outGradient,
    Matrix qGradient,
    Matrix kGradient,
    Matrix vGradient
  ) {
    String name = "attendGradient";
    M queries = own(name, "q", q);
    M keys = own(name, "k", k);
    M values = own(name, "v", v);
    M result = own(name, "out", out);
    M sums = own(name, "logSums", logSums);
    M given = own(name, "outGradient", outGradient);
    M toQueries = own(name, "qGradient", qGradient);
    M toKeys = own(name, "kGradient", kGradient);
    M toValues = own(name, "vGradient", vGradient);
    checkAttention(name, queries, keys, values, shape, result, sums);
    checkSame(name, "outGradient", given, queries);
    checkSame(name, "qGradient", toQueries, queries);
    checkSame(name, "kGradient", toKeys, keys);
    checkSame(name, "vGradient", toValues, keys);
    checkApartOrSame(name, "qGradient", toQueries, "outGradient", given);
    checkApartFromAll(name, "qGradient", toQueries, queries, keys, values, result, sums);
    checkApartFromAll(name, "kGradient", toKeys, queries, keys, values, result, sums, given, toQueries);
    checkApartFromAll(name, "vGradient", toValues, queries, keys, values, result, sums, given, toQueries, toKeys);
    attendGradientChecked(queries, keys, values, shape, result, sums, given, toQueries, toKeys, toValues);
  }

  @Override
  public final void swiGlu(Matrix gate, Matrix up, Matrix out) {
    M left = own("swiGlu", "gate", gate);
    M right = own("swiGlu", "up", up);
    M result = own("swiGlu", "the result", out);
    checkSame("swiGlu", "up", right, left);
    checkSame("swiGlu", "the result", result, left);
    checkApartOrSame("swiGlu", "the result", result, "gate", left);
    checkApartOrSame("swiGlu", "the result", result, "up", right);
    swiGluChecked(left, right, result);
  }

  @Override
  public final void swiGluGradient(Matrix gate, Matrix up, Matrix outGradient, Matrix gateGradient, Matrix upGradient) {
    String name = "swiGluGradient";
    M left = own(name, "gate", gate);
    M right = own(name, "up", up);
    M given = own(name, "outGradient", outGradient);
    M toLeft = own(name, "gateGradient", gateGradient);
    M toRight = own(name, "upGradient", upGradient);
    checkSame(name, "up", right, left);
    checkSame(name, "outGradient", given, left);
    checkSame(name, "gateGradient", toLeft, left);
    checkSame(name, "upGradient", toRight, left);
    checkApartOrSame(name, "gateGradient", toLeft, "gate", left);
    checkApartOrSame(name, "gateGradient", toLeft, "up", right);
    checkApartOrSame(name, "gateGradient", toLeft, "outGradient", given);
    checkApartOrSame(name, "upGradient", toRight, "gate", left);
    checkApartOrSame(name, "upGradient", toRight, "up", right);
    checkApartOrSame(name, "upGradient", toRight, "outGradient", given);
    checkApart(name, "upGradient", toRight, "gateGradient", toLeft);
    swiGluGradientChecked(left, right, given, toLeft, toRight);
  }

  @Override
  public final void distributionLoss(
    Matrix logits,
    TeacherRows teacher,
    int[] labels,
    DistributionLoss loss,
    Matrix losses
  ) {
    String name = "distributionLoss";
    M student = own(name, "logits", logits);
    M result = own(name, "losses", losses);
    int vocabulary = student.columns();
    checkShape(name, "losses", result, student.rows(), 2);
    checkCount(name, "labels", labels.length, student.rows());
    checkTokens(name, "label", labels, Integer.MIN_VALUE, vocabulary);
    checkApart(name, "losses", result, "logits", student);
    int[] tokens = null;
    M said = null;
    switch (teacher) {
      case null -> {
        if (loss.divergenceWeight() > 0) {
          throw new IllegalArgumentException(name + ": a divergence without a teacher");
        }
      }
      case Logits(Matrix all) -> {
        said = own(name, "the teacher's", all);
        checkSame(name, "the teacher's", said, student);
      }
      case Top(int[] likeliest, Matrix logProbabilities) -> {
        tokens = likeliest;
        said = own(name, "the teacher's", logProbabilities);
        int k = said.columns() - 1;
        if (k < 1 || k >= vocabulary) {
          throw new IllegalArgumentException(
            name + ": " + k + " tokens of the teacher's, expected 1 to " + (vocabulary - 1)
          );
        }
        checkShape(name, "the teacher's", said, student.rows(), k + 1);
        checkCount(name, "the teacher's tokens", tokens.length, (long) student.rows() * k);
        checkTokens(name, "token", tokens, 0, vocabulary);
        checkDistinct(name, tokens, k, vocabulary);
      }
    }
    if (said != null) {
      checkApart(name, "the gradient", student, "the teacher's", said);
      checkApart(name, "losses", result, "the teacher's", said);
    }
    distributionLossChecked(student, tokens, said, labels, loss, result);
  }

  @Override
  public final void stateLoss(Matrix states, Matrix teacher, boolean cosine, float scale, Matrix losses) {
    M student = own("stateLoss", "states", states);
    M said = own("stateLoss", "the teacher's", teacher);
    M result = own("stateLoss", "losses", losses);
    checkSame("stateLoss", "the teacher's", said, student);
    checkShape("stateLoss", "losses", result, student.rows(), 1);
    checkApart("stateLoss", "the gradient", student, "the teacher's", said);
    checkApartFromAll("stateLoss", "losses", result, student, said);
    stateLossChecked(student, said, cosine, scale, result);
  }

  @Override
  public final double squares(Matrix x) {
    return squaresChecked(own("squares", "x", x));
  }

  @Override
  public final void scale(float factor, Matrix x) {
    scaleChecked(factor, own("scale", "x", x));
  }

  @Override
  public final void adamW(Matrix weights, Matrix gradient, Matrix first, Matrix second, AdamStep step) {
    M changed = own("adamW", "the weights", weights);
    M given = own("adamW", "the gradient", gradient);
    M mean = own("adamW", "first", first);
    M square = own("adamW", "second", second);
    checkSame("adamW", "the gradient", given, changed);
    checkSame("adamW", "first", mean, changed);
    checkSame("adamW", "second", square, changed);
    checkApartFromAll("adamW", "the weights", changed, given, mean, square);
    checkApartFromAll("adamW", "first", mean, given, square);
    checkApartFromAll("adamW", "second", square, given);
    adamWChecked(changed, given, mean, square, step);
  }

  // --- What a device does.

  protected abstract void embedChecked(int[] tokens, M table, M out);

  protected abstract void embedGradientChecked(int[] tokens, M outGradient, M tableGradient);

  protected abstract void addBiasChecked(M bias, M to);

  protected abstract void addBiasGradientChecked(M outGradient, M biasGradient);

  protected abstract void rmsNormChecked(M x, M weight, float epsilon, M out);

  protected abstract void rmsNormGradientChecked(
    M x,
    M weight,
    float epsilon,
    M outGradient,
    boolean add,
    M xGradient,
    M weightGradient
  );

  protected abstract void rotateChecked(M x, int headSize, M angles, boolean neighbours, boolean back);

  protected abstract void attendChecked(M q, M k, M v, AttentionShape shape, M out, M logSums);

  protected abstract void attendGradientChecked(
    M q,
    M k,
    M v,
    AttentionShape shape,
    M out,
    M logSums,
    M outGradient,
    M qGradient,
    M kGradient,
    M vGradient
  );

  protected abstract void swiGluChecked(M gate, M up, M out);

  protected abstract void swiGluGradientChecked(M gate, M up, M outGradient, M gateGradient, M upGradient);

  /**
   * Computes {@link #distributionLoss}.
   *
   * @param tokens the teacher's likeliest tokens (n, k); null if the teacher says all, or nothing
   * @param teacher the logarithms of the probabilities of the tokens and the rest (n, k + 1), or logits (n, vocabulary) if tokens is
   *     null; null if there is no teacher
   */
  protected abstract void distributionLossChecked(
    M logits,
    int[] tokens,
    M teacher,
    int[] labels,
    DistributionLoss loss,
    M losses
  );

  protected abstract void stateLossChecked(M states, M teacher, boolean cosine, float scale, M losses);

  protected abstract double squaresChecked(M x);

  protected abstract void scaleChecked(float factor, M x);

  protected abstract void adamWChecked(M weights, M gradient, M first, M second, AdamStep step);

  // --- Checks.

  private M own(String operation, String name, Matrix matrix) {
    return device.own(operation, name, matrix);
  }

  private static void checkShape(String operation, String name, Matrix matrix, int rows, int columns) {
    CheckedDevice.checkShape(operation, name, matrix, rows, columns);
  }

  private static void checkSame(String operation, String name, Matrix matrix, Matrix other) {
    checkShape(operation, name, matrix, other.rows(), other.columns());
  }

  private static void checkApart(String operation, String result, DeviceMatrix to, String source, DeviceMatrix from) {
    CheckedDevice.checkApart(operation, result, to, source, from);
  }

  private static void checkApartOrSame(
    String operation,
    String result,
    DeviceMatrix to,
    String source,
    DeviceMatrix from
  ) {
    CheckedDevice.checkApartOrSame(operation, result, to, source, from);
  }

  private static void checkApartFromAll(String operation, String result, DeviceMatrix to, DeviceMatrix... others) {
    for (DeviceMatrix other : others) {
      checkApart(operation, result, to, "another matrix " + CheckedDevice.shape(other), other);
    }
  }

  private static void checkDivides(String operation, String what, int divisor, String name, int count) {
    if (divisor < 1 || count % divisor != 0) {
      throw new IllegalArgumentException(
        operation + ": " + what + " is " + divisor + ", expected a divisor of the " + count + " " + name
      );
    }
  }

  private static void checkCount(String operation, String name, int count, long expected) {
    if (count != expected) {
      throw new IllegalArgumentException(operation + ": " + name + " has " + count + ", expected " + expected);
    }
  }

  private static void checkTokens(String operation, String what, int[] tokens, int least, int end) {
    for (int i = 0; i < tokens.length; i++) {
      if (tokens[i] < least || tokens[i] >= end) {
        throw new IllegalArgumentException(
          "%s: %s %d at %d, expected %s %d".formatted(
            operation,
            what,
            tokens[i],
            i,
            least < 0 ? "below" : "at least 0 and below",
            end
          )
        );
      }
    }
  }

  private static void checkDistinct(String operation, int[] tokens, int k, int vocabulary) {
    int[] lastRow = new int[vocabulary];
    for (int i = 0; i < tokens.length; i++) {
      int row = i / k + 1;
      if (lastRow[tokens[i]] == row) {
        throw new IllegalArgumentException(
          operation + ": token " + tokens[i] + " twice in row " + (row - 1) + " of the teacher's"
        );
      }
      lastRow[tokens[i]] = row;
    }
  }
}
