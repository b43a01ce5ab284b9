// Dense algebra on strided views. Sums run in another order than a plain loop's: backwards, in blocks.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <vector>

/** The number in row i and column j is at i * row + j * column. */
template <class T>
struct View {
  T *data;
  ptrdiff_t row, column;
  T &at(ptrdiff_t i, ptrdiff_t j) const { return data[i * row + j * column]; }
  View block(ptrdiff_t i, ptrdiff_t j) const { return {data + i * row + j * column, row, column}; }
  View transposed() const { return {data, column, row}; }
  View<const T> constant() const { return {data, row, column}; }
};

static const size_t DEPTH = 256;

/** w = a b, with a (m, k), b (k, n) and w (m, n) of leading dimension m. */
template <class T>
void product(size_t m, size_t n, size_t k, View<const T> a, View<const T> b, T *w) {
  typedef T Vector __attribute__((vector_size(32)));
  struct Tall {
    Vector first, second;
  };
  constexpr size_t TALL = sizeof(Tall) / sizeof(T), WIDE = 6, HEIGHT = 128;
  std::fill(w, w + m * n, T(0));
  size_t tiles = (n + WIDE - 1) / WIDE;
  std::vector<T> panelB(tiles * WIDE * DEPTH);
  std::vector<Tall> panelA(HEIGHT / TALL * DEPTH);
  for (size_t blocks = (k + DEPTH - 1) / DEPTH; blocks-- > 0;) {
    size_t from = blocks * DEPTH, depth = std::min(DEPTH, k - from);
    for (size_t p = 0; p < depth; p++) {
      for (size_t j = 0; j < tiles * WIDE; j++) {
        panelB[(j / WIDE * DEPTH + p) * WIDE + j % WIDE] = j < n ? b.at(from + p, j) : T(0);
      }
    }
    for (size_t top = 0; top < m; top += HEIGHT) {
      size_t height = std::min(HEIGHT, m - top);
      T *packed = (T *)panelA.data();
      size_t rows = (height + TALL - 1) / TALL * TALL;
      for (size_t i = 0; i < rows; i++) {
        for (size_t p = 0; p < depth; p++) {
          packed[(i / TALL * DEPTH + p) * TALL + i % TALL] = i < height ? a.at(top + i, from + p) : T(0);
        }
      }
      for (size_t tile = 0; tile < tiles; tile++) {
        for (size_t i = 0; i < height; i += TALL) {
          const T *columns = panelB.data() + tile * DEPTH * WIDE;
          const Tall *numbers = panelA.data() + i / TALL * DEPTH;
          Vector sums[WIDE][2] = {};
          for (size_t p = depth; p-- > 0;) {
            for (size_t j = 0; j < WIDE; j++) {
              sums[j][0] += numbers[p].first * columns[p * WIDE + j];
              sums[j][1] += numbers[p].second * columns[p * WIDE + j];
            }
          }
          size_t high = std::min(TALL, height - i), wide = std::min(WIDE, n - tile * WIDE);
          for (size_t j = 0; j < wide; j++) {
            T column[TALL];
            memcpy(column, sums[j], sizeof column);
            T *to = w + (tile * WIDE + j) * m + top + i;
            for (size_t r = 0; r < high; r++) to[r] += column[r];
          }
        }
      }
    }
  }
}

/** b -= x y, with x (m, k) and y (k, n); of b (m, n) only the lower triangle if so said. */
template <class T>
void subtractProduct(size_t m, size_t n, size_t k, View<const T> x, View<const T> y, View<T> b, bool lower = false) {
  const size_t WIDTH = 96;
  std::vector<T> w(m * std::min(WIDTH, n));
  for (size_t left = 0; left < n; left += WIDTH) {
    size_t width = std::min(WIDTH, n - left), top = lower ? left : 0;
    if (top >= m) return;
    product<T>(m - top, width, k, x.block(top, 0), y.block(0, left), w.data());
    for (size_t j = 0; j < width; j++) {
      for (size_t i = lower ? j : 0; i < m - top; i++) b.at(top + i, left + j) -= w[j * (m - top) + i];
    }
  }
}

/** Replaces x (n, m) with the solution of t x = x, with t (n, n) triangular. */
template <class T>
void solve(size_t n, size_t m, View<const T> t, bool lower, bool unit, View<T> x) {
  if (n <= 32) {
    for (size_t step = 0; step < n; step++) {
      size_t i = lower ? step : n - 1 - step;
      for (size_t j = 0; j < m; j++) {
        T sum = 0;
        if (lower) {
          for (size_t p = i; p-- > 0;) sum += t.at(i, p) * x.at(p, j);
        } else {
          for (size_t p = n - 1; p > i; p--) sum += t.at(i, p) * x.at(p, j);
        }
        T value = x.at(i, j) - sum;
        x.at(i, j) = unit ? value : value / t.at(i, i);
      }
    }
    return;
  }
  size_t half = n / 2;
  View<const T> first = t, second = t.block(half, half);
  View<T> top = x, bottom = x.block(half, 0);
  if (lower) {
    solve<T>(half, m, first, true, unit, top);
    subtractProduct<T>(n - half, m, half, t.block(half, 0), top.constant(), bottom);
    solve<T>(n - half, m, second, true, unit, bottom);
  } else {
    solve<T>(n - half, m, second, false, unit, bottom);
    subtractProduct<T>(half, m, n - half, t.block(0, half), bottom.constant(), top);
    solve<T>(half, m, first, false, unit, top);
  }
}

/** Replaces the lower triangle of a (n, n) with its Cholesky factor; 0, or k if the leading minor of order k is not positive. */
template <class T>
int cholesky(size_t n, View<T> a) {
  if (n <= 32) {
    for (size_t j = 0; j < n; j++) {
      T sum = 0;
      for (size_t p = j; p-- > 0;) sum += a.at(j, p) * a.at(j, p);
      T rest = a.at(j, j) - sum;
      if (!(rest > 0)) return (int)j + 1;
      T root = std::sqrt(rest);
      a.at(j, j) = root;
      for (size_t i = j + 1; i < n; i++) {
        sum = 0;
        for (size_t p = j; p-- > 0;) sum += a.at(i, p) * a.at(j, p);
        a.at(i, j) = (a.at(i, j) - sum) / root;
      }
    }
    return 0;
  }
  size_t half = n / 2;
  if (int info = cholesky(half, a); info != 0) return info;
  View<T> below = a.block(half, 0), rest = a.block(half, half);
  // below = below L^-T: L below' = below'.
  solve<T>(half, n - half, a.constant(), true, false, below.transposed());
  subtractProduct<T>(n - half, n - half, half, below.constant(), below.transposed().constant(), rest, true);
  int info = cholesky(n - half, rest);
  return info == 0 ? 0 : info + (int)half;
}
