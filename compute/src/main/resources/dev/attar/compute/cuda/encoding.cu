#include "common.cuh"

// The scale searches of GGUF's block types and their packing: ggml's, with each operation in its order, so that the
// bytes are those of the encoders that run on the processor.
//
// Weights and levels are (n, rows) with a column per row of the weights: threads along x are neighbouring rows, which
// touch neighbouring addresses. Groups are the weights of a row that share a scale, blocks those that are stored
// together. A search goes in stages, which leave what they find in the matrices of the grid:
//
//   encodingSpreads   what a weight's square is added to where its importance is known
//   round, search     a group's scale and minimum, exact, and the levels by them
//   scales            a block's d and dmin, and the whole numbers that the groups' scales and minimums become
//   nearest           the levels by what has become of the scales

// Groups whose largest magnitude is less are zero.
constexpr float NEGLIGIBLE = 1e-15f;

// 1.5 * 2^23: adding it leaves the nearest integer in a number's low bits.
constexpr float ROUNDER = 12582912;

// The largest float below one half.
constexpr float BELOW_HALF = 0x1.fffffep-2f;

// How often a descent goes over the codes.
constexpr int DESCENTS = 5;

// Where a matrix with a column per row of the weights has what is asked for.
static __device__ __forceinline__ long long place(int index, int row, int rows) {
  return (long long) index * rows + row;
}

static __device__ __forceinline__ int thisRow() {
  return blockIdx.x * blockDim.x + threadIdx.x;
}

// The nearest integer, ties to even. Beyond 2^22 what the low bits happen to be; 0 for what is not a number.
static __device__ __forceinline__ int nearest(float x) {
  float rounded = x + ROUNDER;
  return rounded != rounded ? 0 : (__float_as_int(rounded) & 0x7FFFFF) - 0x400000;
}

static __device__ __forceinline__ int clamped(int i, int least, int most) {
  return i < least ? least : i > most ? most : i;
}

// The code of a value: the nearest integer within bounds.
static __device__ __forceinline__ float code(float x, int least, int most) {
  return (float) clamped(nearest(x), least, most);
}

// The low byte, with its sign, of a number cut to an integer; 0 for numbers that do not fit one.
static __device__ __forceinline__ int truncatedByte(float x) {
  return fabsf(x) < 0x1p31f ? (signed char) (int) x : 0;
}

// The half that stores a scale. One that is not a number has its sign bit set.
static __device__ __forceinline__ unsigned short scaleBits(float scale) {
  return scale != scale ? 0xFE00 : halfBits(scale);
}

template <int N>
static __device__ __forceinline__ void load(const float* from, int first, int row, int rows, float (&x)[N]) {
#pragma unroll
  for (int i = 0; i < N; i++) {
    x[i] = from[place(first + i, row, rows)];
  }
}

template <int N>
static __device__ __forceinline__ float squares(const float (&x)[N]) {
  float sum = 0;
#pragma unroll
  for (int i = 0; i < N; i++) {
    sum += x[i] * x[i];
  }
  return sum;
}

// The first value of the largest magnitude; 0 if all are.
template <int N>
static __device__ __forceinline__ float largest(const float (&x)[N]) {
  float most = 0;
#pragma unroll
  for (int i = 0; i < N; i++) {
    most = fabsf(x[i]) > fabsf(most) ? x[i] : most;
  }
  return most;
}

// What the squares of a group's values weigh in its search, by the importance of their columns: the more, the more they
// stand out from the spread. Returns the sum.
template <int N>
static __device__ __forceinline__ float weigh(
    const float (&x)[N], const float* importance, float spread, float (&w)[N]) {
  float sum = 0;
#pragma unroll
  for (int i = 0; i < N; i++) {
    w[i] = importance[i] * sqrtf(spread + x[i] * x[i]);
    sum += w[i];
  }
  return sum;
}

// ---- spreads ----

// (factor * the sum of squares) / divisor, for each `length` values of a row. Grid: rows, row's parts.
extern "C" __global__ void encodingSpreads(
    const float* weights, int length, int rows, float factor, float divisor, float* spread) {
  int row = thisRow();
  if (row >= rows) {
    return;
  }
  int first = blockIdx.y * length;
  float sum = 0;
#pragma unroll 16
  for (int i = 0; i < length; i++) {
    float x = weights[place(first + i, row, rows)];
    sum += x * x;
  }
  spread[place(blockIdx.y, row, rows)] = factor * sum / divisor;
}

// ---- Groups with a scale and a minimum: Q4_1, Q5_1, Q2_K, Q4_K, Q5_K ----

// x = scale * code + minimum, and how the codes came out of x: the nearest to inverse * (x - origin).
struct AffineFit {
  float scale;
  float minimum;
  float inverse;
  float origin;
};

// Tries scales by which the values span maxCode + from + step * i codes, i = 0 ... last. Each is fitted with a minimum
// to the codes it gives by least squares, and kept if that lowers the error; the next starts at the minimum kept.
template <int N>
static __device__ __forceinline__ AffineFit fitAffine(
    const float (&x)[N], const float (&w)[N], int maxCode, float from, float step, int last, bool absolute) {
  float min = x[0];
  float max = x[0];
  float sumW = w[0];
  float sumX = sumW * x[0];
#pragma unroll
  for (int i = 1; i < N; i++) {
    min = x[i] < min ? x[i] : min;
    max = x[i] > max ? x[i] : max;
    sumW += w[i];
    sumX += w[i] * x[i];
  }
  min = min > 0 ? 0 : min;
  if (max == min) {
    return {0, min, 0, 0};
  }
  AffineFit best = {0, min, 0, 0};
  float leastError = 0;
#pragma unroll 1
  for (int t = -1; t <= last; t++) {
    // The first try, from the least to the largest value, is taken without a fit.
    float origin = best.minimum;
    float inverse = (t < 0 ? maxCode : from + step * t + maxCode) / (max - origin);
    AffineFit tried = {1 / inverse, origin, inverse, origin};
    if (t >= 0) {
      float sumL = 0;
      float sumL2 = 0;
      float sumXl = 0;
#pragma unroll
      for (int i = 0; i < N; i++) {
        float l = code(inverse * (x[i] - origin), 0, maxCode);
        float wl = w[i] * l;
        sumL += wl;
        sumL2 += wl * l;
        sumXl += wl * x[i];
      }
      float determinant = sumW * sumL2 - sumL * sumL;
      if (!(determinant > 0)) {
        continue;
      }
      tried.scale = (sumW * sumXl - sumX * sumL) / determinant;
      tried.minimum = (sumL2 * sumX - sumL * sumXl) / determinant;
      if (tried.minimum > 0) {
        tried.minimum = 0;
        tried.scale = sumXl / sumL2;
      }
    }
    float sum = 0;
#pragma unroll
    for (int i = 0; i < N; i++) {
      float error = tried.scale * code(inverse * (x[i] - origin), 0, maxCode) + tried.minimum - x[i];
      sum += w[i] * (absolute ? fabsf(error) : error * error);
    }
    if (t < 0 || sum < leastError) {
      leastError = sum;
      best = tried;
    }
  }
  return best;
}

template <int N>
static __device__ __forceinline__ void searchAffine(
    const float* weights, const float* importance, const float* spread, int spreadGroups, int maxCode, float from,
    float step, int last, int absolute, int addMean, int rows, float* scale, float* minimum, float* sums,
    float* levels) {
  int row = thisRow();
  if (row >= rows) {
    return;
  }
  int group = blockIdx.y;
  float x[N];
  float w[N];
  load(weights, N * group, row, rows, x);
  if (importance) {
    float sum = weigh(x, importance + N * group, spread[place(group / spreadGroups, row, rows)], w);
    if (sums) {
      sums[place(group, row, rows)] = sum;
    }
  } else {
    float mean = addMean ? sqrtf(squares(x) / N) : 0;
#pragma unroll
    for (int i = 0; i < N; i++) {
      w[i] = mean + fabsf(x[i]);
    }
  }
  AffineFit fit = fitAffine(x, w, maxCode, from, step, last, absolute);
  scale[place(group, row, rows)] = fit.scale;
  minimum[place(group, row, rows)] = -fit.minimum;
#pragma unroll
  for (int i = 0; i < N; i++) {
    levels[place(N * group + i, row, rows)] = code(fit.inverse * (x[i] - fit.origin), 0, maxCode);
  }
}

// Groups of 16; see fitAffine.
//   importance: one per column, or null; spread: of the parts with spreadGroups groups
//   addMean: without importance, whether a value weighs its magnitude plus the root of the group's mean square, or the
//     magnitude alone
//   scale, minimum: get the scale and the negative minimum (groups, rows)
//   sums: gets the sums of what the values weigh (groups, rows); may be null
// Grid: rows, groups.
extern "C" __global__ void searchAffine16(
    const float* weights, const float* importance, const float* spread, int spreadGroups, int maxCode, float from,
    float step, int last, int absolute, int addMean, int rows, float* scale, float* minimum, float* sums,
    float* levels) {
  searchAffine<16>(
      weights, importance, spread, spreadGroups, maxCode, from, step, last, absolute, addMean, rows, scale, minimum,
      sums, levels);
}

// Groups of 32.
extern "C" __global__ void searchAffine32(
    const float* weights, const float* importance, const float* spread, int spreadGroups, int maxCode, float from,
    float step, int last, int absolute, int addMean, int rows, float* scale, float* minimum, float* sums,
    float* levels) {
  searchAffine<32>(
      weights, importance, spread, spreadGroups, maxCode, from, step, last, absolute, addMean, rows, scale, minimum,
      sums, levels);
}

// Q4_1 and Q5_1 without importance: from the least to the largest value. Grid: rows, groups.
extern "C" __global__ void roundAffine(
    const float* weights, int maxCode, int rows, float* scale, float* minimum, float* levels) {
  int row = thisRow();
  if (row >= rows) {
    return;
  }
  int group = blockIdx.y;
  float x[32];
  load(weights, 32 * group, row, rows, x);
  float min = x[0];
  float max = x[0];
#pragma unroll
  for (int i = 1; i < 32; i++) {
    min = x[i] < min ? x[i] : min;
    max = x[i] > max ? x[i] : max;
  }
  float d = (max - min) / maxCode;
  float inverse = d != 0 ? 1 / d : 0;
  scale[place(group, row, rows)] = d;
  minimum[place(group, row, rows)] = -min;
#pragma unroll
  for (int i = 0; i < 32; i++) {
    int rounded = truncatedByte((x[i] - min) * inverse + 0.5f);
    levels[place(32 * group + i, row, rows)] = (float) ((rounded > maxCode ? maxCode : rounded) & maxCode);
  }
}

// ---- Groups with a scale alone: Q4_0, Q5_0, Q8_0, Q3_K, Q6_K ----

// x = scale * code, and how the codes came out of x: the nearest to inverse * x; -half if all are negligible.
struct SymmetricFit {
  float scale;
  float inverse;
  bool negligible;
};

static __device__ __forceinline__ float levelBy(const SymmetricFit &fit, float x, int half) {
  return fit.negligible ? -half : code(fit.inverse * x, -half, half - 1);
}

// Tries 19 scales around the one that gives the value of the largest magnitude the code -half, and keeps the best by
// least squares.
template <int N>
static __device__ __forceinline__ SymmetricFit fitSymmetric(const float (&x)[N], const float (&w)[N], int half) {
  float max = largest(x);
  if (fabsf(max) < NEGLIGIBLE) {
    return {0, 0, true};
  }
  SymmetricFit kept = {0, 0, false};
  float best = 0;
#pragma unroll 1
  for (int t = 0; t < 19; t++) {
    int tenths = t == 0 ? 0 : t < 10 ? t - 10 : t - 9;
    float inverse = -(half + 0.1f * tenths) / max;
    float sumXl = 0;
    float sumL2 = 0;
#pragma unroll
    for (int i = 0; i < N; i++) {
      float l = code(inverse * x[i], -half, half - 1);
      sumXl += w[i] * x[i] * l;
      sumL2 += w[i] * l * l;
    }
    if (t == 0 || (sumL2 > 0 && sumXl * sumXl > best * sumL2)) {
      kept.inverse = inverse;
      kept.scale = sumL2 != 0 ? sumXl / sumL2 : 0;
      best = kept.scale * sumXl;
    }
  }
  return kept;
}

template <int N>
static __device__ __forceinline__ void searchSymmetric(
    const float* weights, const float* importance, const float* spread, int spreadGroups, int half, int rows,
    float* scale, float* sums, float* levels) {
  int row = thisRow();
  if (row >= rows) {
    return;
  }
  int group = blockIdx.y;
  float x[N];
  float w[N];
  load(weights, N * group, row, rows, x);
  if (spread) {
    float sum = weigh(x, importance + N * group, spread[place(group / spreadGroups, row, rows)], w);
    if (sums) {
      sums[place(group, row, rows)] = sum;
    }
  } else {
#pragma unroll
    for (int i = 0; i < N; i++) {
      w[i] = importance ? importance[N * group + i] : x[i] * x[i];
    }
  }
  SymmetricFit fit = fitSymmetric(x, w, half);
  scale[place(group, row, rows)] = fit.scale;
#pragma unroll
  for (int i = 0; i < N; i++) {
    levels[place(N * group + i, row, rows)] = levelBy(fit, x[i], half);
  }
}

// Groups of 16; see fitSymmetric.
//   importance: one per column, or null: then a value weighs its square
//   spread: of the parts with spreadGroups groups, or null: then a value weighs its importance as it is
//   scale: gets the scale (groups, rows)
//   sums: gets the sums of what the values weigh (groups, rows); may be null
// Grid: rows, groups.
extern "C" __global__ void searchSymmetric16(
    const float* weights, const float* importance, const float* spread, int spreadGroups, int half, int rows,
    float* scale, float* sums, float* levels) {
  searchSymmetric<16>(weights, importance, spread, spreadGroups, half, rows, scale, sums, levels);
}

// Groups of 32.
extern "C" __global__ void searchSymmetric32(
    const float* weights, const float* importance, const float* spread, int spreadGroups, int half, int rows,
    float* scale, float* sums, float* levels) {
  searchSymmetric<32>(weights, importance, spread, spreadGroups, half, rows, scale, sums, levels);
}

// Q3_K without importance: coordinate descent from rounded values, weighted by squares. A code moves to the integer
// that suits the others' scale best if that lowers the error. Grid: rows, groups.
extern "C" __global__ void searchDescent(const float* weights, int half, int rows, float* scale, float* levels) {
  int row = thisRow();
  if (row >= rows) {
    return;
  }
  int group = blockIdx.y;
  float x[16];
  float codes[16];
  load(weights, 16 * group, row, rows, x);
  float max = largest(x);
  float sumXl = 0;
  float sumL2 = 0;
  if (fabsf(max) < NEGLIGIBLE) {
#pragma unroll
    for (int i = 0; i < 16; i++) {
      codes[i] = -half;
    }
  } else {
    float inverse = -half / max;
#pragma unroll
    for (int i = 0; i < 16; i++) {
      float w = x[i] * x[i];
      codes[i] = code(inverse * x[i], -half, half - 1);
      sumXl += w * x[i] * codes[i];
      sumL2 += w * codes[i] * codes[i];
    }
    bool changed = true;
#pragma unroll 1
    for (int t = 0; changed && t < DESCENTS; t++) {
      changed = false;
#pragma unroll
      for (int i = 0; i < 16; i++) {
        float w = x[i] * x[i];
        float othersXl = sumXl - w * x[i] * codes[i];
        if (othersXl > 0) {
          float othersL2 = sumL2 - w * codes[i] * codes[i];
          float better = code(x[i] * othersL2 / othersXl, -half, half - 1);
          if (better != codes[i]) {
            othersXl += w * x[i] * better;
            othersL2 += w * better * better;
            if (othersL2 > 0 && othersXl * othersXl * sumL2 > sumXl * sumXl * othersL2) {
              codes[i] = better;
              sumXl = othersXl;
              sumL2 = othersL2;
              changed = true;
            }
          }
        }
      }
    }
  }
  scale[place(group, row, rows)] = sumL2 > 0 ? sumXl / sumL2 : 0;
#pragma unroll
  for (int i = 0; i < 16; i++) {
    levels[place(16 * group + i, row, rows)] = codes[i];
  }
}

// Q4_0 and Q5_0 without importance: the value of the largest magnitude gets the code -half. Grid: rows, groups.
extern "C" __global__ void roundSymmetric(const float* weights, int half, int rows, float* scale, float* levels) {
  int row = thisRow();
  if (row >= rows) {
    return;
  }
  int group = blockIdx.y;
  float x[32];
  load(weights, 32 * group, row, rows, x);
  float d = largest(x) / -half;
  float inverse = d != 0 ? 1 / d : 0;
  int most = 2 * half - 1;
  scale[place(group, row, rows)] = d;
#pragma unroll
  for (int i = 0; i < 32; i++) {
    int rounded = truncatedByte(x[i] * inverse + (half + 0.5f));
    levels[place(32 * group + i, row, rows)] = (float) (((rounded > most ? most : rounded) & most) - half);
  }
}

// Q8_0. Grid: rows, groups.
extern "C" __global__ void roundBytes(const float* weights, int rows, float* scale, float* levels) {
  int row = thisRow();
  if (row >= rows) {
    return;
  }
  int group = blockIdx.y;
  float x[32];
  load(weights, 32 * group, row, rows, x);
  float d = fabsf(largest(x)) / 127;
  float inverse = d != 0 ? 1 / d : 0;
  scale[place(group, row, rows)] = d;
#pragma unroll
  for (int i = 0; i < 32; i++) {
    float v = x[i] * inverse;
    levels[place(32 * group + i, row, rows)] = (float) truncatedByte(v + copysignf(BELOW_HALF, v));
  }
}

// ---- Groups with a codebook: IQ4_NL, IQ4_XS ----

static __device__ const float CODEBOOK[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};

// What is not below element i is nearer to word i than to the one before it. Element 0 has no meaning.
static __device__ const float CODEBOOK_BOUNDS[16] = {
    0, -115.5f, -93.5f, -74, -57, -42, -28.5f, -16, -4.5f, 7, 19, 31.5f, 45.5f, 61, 79, 101};

// The place of the nearest word; 15 for what is not a number.
static __device__ __forceinline__ int codeword(float x) {
  int i = x < CODEBOOK_BOUNDS[8] ? 0 : 8;
  i = x < CODEBOOK_BOUNDS[i + 4] ? i : i + 4;
  i = x < CODEBOOK_BOUNDS[i + 2] ? i : i + 2;
  return x < CODEBOOK_BOUNDS[i + 1] ? i : i + 1;
}

// Tries 16 scales and keeps the best by least squares.
//   importance, spread: as in searchSymmetric16; both or none
//   scale: gets the scale (groups, rows)
// Grid: rows, groups.
extern "C" __global__ void searchCodebook(
    const float* weights, const float* importance, const float* spread, int spreadGroups, int rows, float* scale) {
  int row = thisRow();
  if (row >= rows) {
    return;
  }
  int group = blockIdx.y;
  float x[32];
  float w[32];
  load(weights, 32 * group, row, rows, x);
  if (importance) {
    weigh(x, importance + 32 * group, spread[place(group / spreadGroups, row, rows)], w);
  } else {
#pragma unroll
    for (int i = 0; i < 32; i++) {
      w[i] = x[i] * x[i];
    }
  }
  float max = largest(x);
  float d = 0;
  float best = 0;
#pragma unroll 1
  for (int t = -1; t < 15 && !(fabsf(max) < NEGLIGIBLE); t++) {
    float inverse = t < 0 ? 1 / (-max / CODEBOOK[0]) : (t - 7 + CODEBOOK[0]) / max;
    float sumXq = 0;
    float sumQ2 = 0;
#pragma unroll
    for (int i = 0; i < 32; i++) {
      float q = CODEBOOK[codeword(inverse * x[i])];
      sumXq += w[i] * q * x[i];
      sumQ2 += w[i] * q * q;
    }
    if (t < 0 || (sumQ2 > 0 && sumXq * sumXq > best * sumQ2)) {
      d = sumQ2 > 0 ? sumXq / sumQ2 : 0;
      best = d * sumXq;
    }
  }
  scale[place(group, row, rows)] = d;
}

// The words nearest to the weights times the inverse of their group's scale (groups, rows). Grid: rows, groups.
extern "C" __global__ void nearestCodewords(const float* weights, const float* inverse, int rows, float* levels) {
  int row = thisRow();
  if (row >= rows) {
    return;
  }
  float factor = inverse[place(blockIdx.y, row, rows)];
  for (int i = 0; i < 32; i++) {
    long long at = place(32 * blockIdx.y + i, row, rows);
    levels[at] = CODEBOOK[codeword(factor * weights[at])];
  }
}

// ---- The scales of blocks ----

// Blocks that are one group, 32 weights.
//   scale, minimum: what was found; get the whole numbers that such blocks have: 1, and 1 or 0
//   hasMinimum: otherwise what is in minimum does not matter
//   inverse: gets 1 / scale, or 0 if that is; may be null
// Grid: rows, blocks.
extern "C" __global__ void scalesOfOneGroup(
    float* scale, float* minimum, int hasMinimum, int rows, float* d, float* dmin, float* inverse) {
  int row = thisRow();
  if (row >= rows) {
    return;
  }
  long long at = place(blockIdx.y, row, rows);
  float found = scale[at];
  if (inverse) {
    inverse[at] = found != 0 ? 1 / found : 0;
  }
  d[at] = half(found);
  dmin[at] = hasMinimum ? half(minimum[at]) : 0;
  scale[at] = 1;
  minimum[at] = hasMinimum ? 1 : 0;
}

// Codes of values as fractions of the largest, for groups without importance. Negative values wrap around in a byte.
// Returns what one step of the codes stands for.
template <int G>
static __device__ __forceinline__ float fractions(const float (&x)[G], int maxCode, int limit, int (&codes)[G]) {
  float max = 0;
#pragma unroll
  for (int g = 0; g < G; g++) {
    max = x[g] > max ? x[g] : max;
  }
  float inverse = max > 0 ? maxCode / max : 0;
#pragma unroll
  for (int g = 0; g < G; g++) {
    int wrapped = nearest(inverse * x[g]) & 0xFF;
    codes[g] = wrapped > limit ? limit : wrapped;
  }
  return max / maxCode;
}

static __device__ __forceinline__ int atMost(int most, int i) {
  return i > most ? most : i;
}

// Codes of values in weighted least squares: the best of nine scales, then coordinate descent. Negative values wrap
// around in a byte. Returns what one step of the codes stands for.
template <int G>
static __device__ __forceinline__ float fitPositive(
    const float (&x)[G], const float (&w)[G], int maxCode, int (&codes)[G]) {
  float max = 0;
#pragma unroll
  for (int g = 0; g < G; g++) {
    max = max > x[g] ? max : x[g];
  }
  if (max < NEGLIGIBLE) {
#pragma unroll
    for (int g = 0; g < G; g++) {
      codes[g] = 0;
    }
    return 0;
  }
  float inverse = maxCode / max;
  float scale = 1 / inverse;
  float best = 0;
#pragma unroll
  for (int g = 0; g < G; g++) {
    float difference = x[g] - scale * (float) (nearest(inverse * x[g]) & 0xFF);
    best += w[g] * difference * difference;
  }
#pragma unroll 1
  for (int t = -4; t <= 4; t++) {
    if (t == 0) {
      continue;
    }
    float tried = (0.1f * t + maxCode) / max;
    float triedScale = 1 / tried;
    float sum = 0;
#pragma unroll
    for (int g = 0; g < G; g++) {
      float difference = x[g] - triedScale * (float) atMost(maxCode, nearest(tried * x[g]));
      sum += w[g] * difference * difference;
    }
    if (sum < best) {
      best = sum;
      inverse = tried;
    }
  }
  float sumXl = 0;
  float sumL2 = 0;
#pragma unroll
  for (int g = 0; g < G; g++) {
    int l = atMost(maxCode, nearest(inverse * x[g]));
    codes[g] = l & 0xFF;
    sumXl += w[g] * x[g] * l;
    sumL2 += w[g] * l * l;
  }
  bool changed = true;
#pragma unroll 1
  for (int t = 0; changed && t < DESCENTS; t++) {
    changed = false;
#pragma unroll
    for (int g = 0; g < G; g++) {
      float othersXl = sumXl - w[g] * x[g] * codes[g];
      float othersL2 = sumL2 - w[g] * codes[g] * codes[g];
      if (othersXl > 0 && othersL2 > 0) {
        int better = atMost(maxCode, nearest(x[g] * othersL2 / othersXl));
        if (better != codes[g]) {
          othersXl += w[g] * x[g] * better;
          othersL2 += w[g] * better * better;
          if (othersXl * othersXl * sumL2 > sumXl * sumXl * othersL2) {
            codes[g] = better & 0xFF;
            sumXl = othersXl;
            sumL2 = othersL2;
            changed = true;
          }
        }
      }
    }
  }
  return sumL2 > 0 ? sumXl / sumL2 : 0;
}

// Q2_K: codes of 4 bits, a scale's and a minimum's in a byte. What exceeds 4 bits of a scale spills into the minimum.
//   scale, minimum: what was found, the minimum negative; get their codes
//   sums: what the groups weigh (groups, rows), or null without importance
// Grid: rows, blocks.
extern "C" __global__ void scalesQ2K(
    float* scale, float* minimum, const float* sums, int rows, float* d, float* dmin) {
  int row = thisRow();
  if (row >= rows) {
    return;
  }
  int first = 16 * blockIdx.y;
  float x[16];
  float w[16];
  int codes[16];
  if (sums) {
    load(sums, first, row, rows, w);
  }
  unsigned long long spilt = 0;
#pragma unroll 1
  for (int part = 0; part < 2; part++) {
    float* found = part ? minimum : scale;
    load(found, first, row, rows, x);
    float step = sums ? fitPositive(x, w, 15, codes) : fractions(x, 15, 255, codes);
    (part ? dmin : d)[place(blockIdx.y, row, rows)] = half(step);
#pragma unroll
    for (int g = 0; g < 16; g++) {
      found[place(first + g, row, rows)] = (float) ((codes[g] | (int) (spilt >> (4 * g))) & 15);
      spilt |= (unsigned long long) (codes[g] >> 4) << (4 * g);
    }
  }
}

// Q4_K and Q5_K: codes of 6 bits. What exceeds them in the first four groups spills into the high bits of the last
// four.
//   limit: 63 to cut codes off there, which Q5_K does, or 255
//   others: as in scalesQ2K
// Grid: rows, blocks.
extern "C" __global__ void scalesQ4K(
    float* scale, float* minimum, const float* sums, int limit, int rows, float* d, float* dmin) {
  int row = thisRow();
  if (row >= rows) {
    return;
  }
  int first = 8 * blockIdx.y;
  float x[8];
  float w[8];
  int codes[8];
  if (sums) {
    load(sums, first, row, rows, w);
  }
#pragma unroll 1
  for (int part = 0; part < 2; part++) {
    float* found = part ? minimum : scale;
    load(found, first, row, rows, x);
    float step = sums ? fitPositive(x, w, 63, codes) : fractions(x, 63, 63, codes);
    (part ? dmin : d)[place(blockIdx.y, row, rows)] = half(step);
#pragma unroll
    for (int g = 0; g < 4; g++) {
      int low = atMost(limit, codes[g]);
      int high = atMost(limit, codes[g + 4]);
      found[place(first + g, row, rows)] = (float) (low & 63);
      found[place(first + g + 4, row, rows)] = (float) ((high & 15) | ((((low >> 6) | (high >> 4)) & 3) << 4));
    }
  }
}

// Q3_K: codes from -32 to 31.
//   scale: what was found; gets its codes; sums: as in scalesQ2K; minimum, dmin: get 0
// Grid: rows, blocks.
extern "C" __global__ void scalesQ3K(float* scale, float* minimum, const float* sums, int rows, float* d, float* dmin) {
  int row = thisRow();
  if (row >= rows) {
    return;
  }
  int first = 16 * blockIdx.y;
  float x[16];
  float step;
  load(scale, first, row, rows, x);
  if (sums) {
    float w[16];
    load(sums, first, row, rows, w);
    SymmetricFit fit = fitSymmetric(x, w, 32);
    step = fit.scale;
#pragma unroll
    for (int g = 0; g < 16; g++) {
      scale[place(first + g, row, rows)] = levelBy(fit, x[g], 32);
    }
  } else {
    float max = largest(x);
    float inverse = max == 0 ? 0 : -32 / max;
    step = max == 0 ? 0 : 1 / inverse;
#pragma unroll
    for (int g = 0; g < 16; g++) {
      int wrapped = (signed char) nearest(inverse * x[g]);
      scale[place(first + g, row, rows)] = (float) (max == 0 ? -32 : clamped(wrapped, -32, 31));
    }
  }
#pragma unroll
  for (int g = 0; g < 16; g++) {
    minimum[place(first + g, row, rows)] = 0;
  }
  d[place(blockIdx.y, row, rows)] = half(step);
  dmin[place(blockIdx.y, row, rows)] = 0;
}

// Q6_K: whole bytes. A block whose scales are negligible is all zero bytes.
//   scale: what was found; gets its codes; levels: change in such blocks; minimum, dmin: get 0
// Grid: rows, blocks.
extern "C" __global__ void scalesQ6K(float* scale, float* minimum, int rows, float* d, float* dmin, float* levels) {
  int row = thisRow();
  if (row >= rows) {
    return;
  }
  int first = 16 * blockIdx.y;
  float x[16];
  load(scale, first, row, rows, x);
  float max = largest(x);
  bool negligible = fabsf(max) < NEGLIGIBLE;
  float inverse = -128 / max;
#pragma unroll
  for (int g = 0; g < 16; g++) {
    long long at = place(first + g, row, rows);
    scale[at] = (float) (negligible ? 0 : (signed char) atMost(127, nearest(inverse * x[g])));
    minimum[at] = 0;
  }
  d[place(blockIdx.y, row, rows)] = negligible ? 0 : half(1 / inverse);
  dmin[place(blockIdx.y, row, rows)] = 0;
  for (int i = 0; negligible && i < 256; i++) {
    levels[place(256 * blockIdx.y + i, row, rows)] = -32;
  }
}

// IQ4_XS: codes from -32 to 31.
//   scale: what was found; gets its codes; inverse: gets 1 / (what a code stands for), before d is rounded to a half,
//     or 0 if that is
//   minimum, dmin: get 0
// Grid: rows, blocks.
extern "C" __global__ void scalesIq4Xs(float* scale, float* minimum, int rows, float* d, float* dmin, float* inverse) {
  int row = thisRow();
  if (row >= rows) {
    return;
  }
  int first = 8 * blockIdx.y;
  float x[8];
  load(scale, first, row, rows, x);
  float step = -largest(x) / 32;
  float inverseStep = step != 0 ? 1 / step : 0;
#pragma unroll
  for (int g = 0; g < 8; g++) {
    long long at = place(first + g, row, rows);
    float l = code(inverseStep * x[g], -32, 31);
    float decoded = step * l;
    scale[at] = l;
    minimum[at] = 0;
    inverse[at] = decoded != 0 ? 1 / decoded : 0;
  }
  d[place(blockIdx.y, row, rows)] = half(step);
  dmin[place(blockIdx.y, row, rows)] = 0;
}

// The levels, whole numbers, nearest to the weights on a k-quant's grid. Those of groups whose scale became 0 stay.
// Grid: rows, groups.
extern "C" __global__ void nearestLevels(
    const float* weights, const float* d, const float* dmin, const float* scale, const float* minimum, int groupLength,
    int least, int most, int rows, float* levels) {
  int row = thisRow();
  if (row >= rows) {
    return;
  }
  int first = groupLength * blockIdx.y;
  long long group = place(blockIdx.y, row, rows);
  long long block = place(first / 256, row, rows);
  float step = d[block] * scale[group];
  float offset = dmin[block] * minimum[group];
  for (int i = 0; step != 0 && i < groupLength; i++) {
    long long at = place(first + i, row, rows);
    levels[at] = code((weights[at] + offset) / step, least, most);
  }
}

// ---- Packing ----

// Where the bytes of a block are: rows one after the other, each with gridDim.y blocks.
static __device__ __forceinline__ unsigned char* blockOf(unsigned char* encoded, int row, int blockBytes) {
  return encoded + ((long long) row * gridDim.y + blockIdx.y) * blockBytes;
}

static __device__ __forceinline__ void putShort(unsigned char* to, int bits) {
  to[0] = (unsigned char) bits;
  to[1] = (unsigned char) (bits >> 8);
}

// Packs some bits of the codes of blocks: a byte has those of 8 / bits codes, which lie `stride` apart.
//   least: the least level; 0 for levels of the codebook, whose codes are their places in it
//   shift: how many low bits of a code are left out
//   offset, bytes: which bytes of a block
// Grid: rows, blocks.
extern "C" __global__ void packCodes(
    const float* levels, int codebook, int least, int shift, int bits, int stride, int offset, int bytes,
    int blockLength, int blockBytes, int rows, unsigned char* encoded) {
  int row = thisRow();
  if (row >= rows) {
    return;
  }
  unsigned char* to = blockOf(encoded, row, blockBytes) + offset;
  int perByte = 8 / bits;
  int mask = (1 << bits) - 1;
  for (int j = 0; j < bytes; j++) {
    int first = blockLength * blockIdx.y + j / stride * stride * perByte + j % stride;
    int packed = 0;
    for (int k = 0; k < perByte; k++) {
      float level = levels[place(first + k * stride, row, rows)];
      int code = codebook ? codeword(level) : (int) level - least;
      packed |= ((code >> shift) & mask) << (bits * k);
    }
    to[j] = (unsigned char) packed;
  }
}

// Packs d, and dmin where there is one.
//   dOffset, dminOffset: where in a block; -1 for no dmin
//   negative: whether a block has the negative of dmin
// Grid: rows, blocks.
extern "C" __global__ void packHalves(
    const float* d, const float* dmin, int dOffset, int dminOffset, int negative, int blockBytes, int rows,
    unsigned char* encoded) {
  int row = thisRow();
  if (row >= rows) {
    return;
  }
  unsigned char* to = blockOf(encoded, row, blockBytes);
  long long at = place(blockIdx.y, row, rows);
  putShort(to + dOffset, scaleBits(d[at]));
  if (dminOffset >= 0) {
    putShort(to + dminOffset, scaleBits(negative ? -dmin[at] : dmin[at]));
  }
}

static __device__ __forceinline__ int whole(const float* matrix, int index, int row, int rows) {
  return (int) matrix[place(index, row, rows)];
}

// Grid: rows, blocks; so too the others.
extern "C" __global__ void packScalesQ2K(
    const float* scale, const float* minimum, int blockBytes, int rows, unsigned char* encoded) {
  int row = thisRow();
  if (row >= rows) {
    return;
  }
  unsigned char* to = blockOf(encoded, row, blockBytes);
  for (int g = 0; g < 16; g++) {
    int group = 16 * blockIdx.y + g;
    to[g] = (unsigned char) (whole(scale, group, row, rows) | (whole(minimum, group, row, rows) << 4));
  }
}

// The low nibbles in 8 bytes, then the high bit pairs in 4.
extern "C" __global__ void packScalesQ3K(const float* scale, int blockBytes, int rows, unsigned char* encoded) {
  int row = thisRow();
  if (row >= rows) {
    return;
  }
  unsigned char* to = blockOf(encoded, row, blockBytes) + 96;
  int first = 16 * blockIdx.y;
  int codes[16];
#pragma unroll
  for (int g = 0; g < 16; g++) {
    codes[g] = whole(scale, first + g, row, rows) + 32;
  }
#pragma unroll
  for (int j = 0; j < 8; j++) {
    to[j] = (unsigned char) ((codes[j] & 15) | (codes[j + 8] << 4));
  }
#pragma unroll
  for (int j = 0; j < 4; j++) {
    int pairs = 0;
#pragma unroll
    for (int k = 0; k < 4; k++) {
      pairs |= (codes[4 * k + j] >> 4) << (2 * k);
    }
    to[8 + j] = (unsigned char) pairs;
  }
}

// Q4_K and Q5_K: four bytes of scales and four of minimums with 6 bits each; four bytes with the low nibbles of the
// others, whose high bit pairs fill the first eight up.
extern "C" __global__ void packScalesQ4K(
    const float* scale, const float* minimum, int blockBytes, int rows, unsigned char* encoded) {
  int row = thisRow();
  if (row >= rows) {
    return;
  }
  unsigned char* to = blockOf(encoded, row, blockBytes) + 4;
  for (int j = 0; j < 4; j++) {
    int group = 8 * blockIdx.y + j;
    int s = whole(scale, group + 4, row, rows);
    int m = whole(minimum, group + 4, row, rows);
    to[j] = (unsigned char) (whole(scale, group, row, rows) | ((s >> 4) << 6));
    to[4 + j] = (unsigned char) (whole(minimum, group, row, rows) | ((m >> 4) << 6));
    to[8 + j] = (unsigned char) ((s & 15) | (m << 4));
  }
}

extern "C" __global__ void packScalesQ6K(const float* scale, int blockBytes, int rows, unsigned char* encoded) {
  int row = thisRow();
  if (row >= rows) {
    return;
  }
  unsigned char* to = blockOf(encoded, row, blockBytes) + 192;
  for (int g = 0; g < 16; g++) {
    to[g] = (unsigned char) whole(scale, 16 * blockIdx.y + g, row, rows);
  }
}

// The high bit pairs in 2 bytes, then the low nibbles in 4.
extern "C" __global__ void packScalesIq4Xs(const float* scale, int blockBytes, int rows, unsigned char* encoded) {
  int row = thisRow();
  if (row >= rows) {
    return;
  }
  unsigned char* to = blockOf(encoded, row, blockBytes);
  unsigned low = 0;
  unsigned high = 0;
  for (int g = 0; g < 8; g++) {
    unsigned code = whole(scale, 8 * blockIdx.y + g, row, rows) + 32;
    low |= (code & 15) << (4 * g);
    high |= (code >> 4) << (2 * g);
  }
  putShort(to + 2, high);
  putShort(to + 4, low);
  putShort(to + 6, low >> 16);
}
