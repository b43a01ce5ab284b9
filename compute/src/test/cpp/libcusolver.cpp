// Stand-in for libcusolver.so.11: the functions that are used, on the emulated GPU.

#include <limits>
#include <numeric>
#include <set>

#include "algebra.h"
#include "library.h"

namespace {

enum Status { SUCCESS = 0, NOT_INITIALIZED = 1, INVALID_VALUE = 3, EXECUTION_FAILED = 6 };

struct Handle {
  void *stream = nullptr;
};
std::set<Handle *> handles;

#define FIND(pointer)                               \
  auto *handle = (Handle *)pointer;                 \
  if (!handles.count(handle)) {                     \
    report("%s found an invalid handle", __func__); \
    return NOT_INITIALIZED;                         \
  }                                                 \
  if (emulated_cuda_ready() != 0) return EXECUTION_FAILED
#define EXPECT(...) \
  if (!expect(__VA_ARGS__)) return INVALID_VALUE
#define EXPECT_LEADING(...) \
  if (!expectLeading(__VA_ARGS__)) return INVALID_VALUE

const double EPSILON = std::numeric_limits<double>::epsilon();

/** Gives a task to the stream; it returns what goes to devInfo. The workspace is worthless afterwards. */
template <class T>
int submit(Handle *handle, const char *who, T *work, int lwork, int *info, std::function<int()> check, std::function<int()> run) {
  int status = enqueue(handle->stream, [=] {
    int status = check();
    if (status == 0) status = emulated_cuda_check(work, sizeof(T) * lwork, 1, who);
    if (status == 0) status = emulated_cuda_check(info, sizeof(int), 1, who);
    if (status != 0) return status;
    *info = run();
    poison(work, lwork);
    return 0;
  });
  return status == 0 ? SUCCESS : EXECUTION_FAILED;
}

int workOfPotrf(int n) { return 32 * n + 16; }
int workOfSyevd(int n) { return 1 + 6 * n + 2 * n * n; }
int workOfGesvd(int m, int n) { return 5 * n + m + 64; }

template <class T>
int potrf(const char *who, void *pointer, int uplo, int n, T *a, int lda, T *work, int lwork, int *info) {
  FIND(pointer);
  EXPECT(uplo == LOWER || uplo == UPPER, who, "uplo", uplo, "0 or 1");
  EXPECT(n >= 0, who, "n", n, "at least 0");
  EXPECT_LEADING(who, "lda", lda, n);
  EXPECT(lwork >= workOfPotrf(n), who, "lwork", lwork, "what the query said");
  return submit(
      handle, who, work, lwork, info,
      [=] {
        int status = checkTriangle(a, n, lda, (Fill)uplo, false, who);
        return status != 0 ? status : checkTriangle(a, n, lda, (Fill)uplo, true, who);
      },
      [=] {
        // U'U is LL' of the transposed matrix.
        View<T> plain{a, 1, lda};
        return cholesky<T>(n, uplo == LOWER ? plain : plain.transposed());
      });
}

/** Householder's reduction to a tridiagonal matrix with QL iterations, as EISPACK's tred2 and tql2; v column-major. */
bool eigen(int n, std::vector<double> &v, std::vector<double> &d) {
  std::vector<double> e(n);
  auto V = [&](int row, int column) -> double & { return v[(size_t)column * n + row]; };
  for (double value : v) {
    if (!std::isfinite(value)) return false;
  }
  for (int j = 0; j < n; j++) d[j] = V(n - 1, j);
  for (int i = n - 1; i > 0; i--) {
    double scale = 0, h = 0;
    for (int k = 0; k < i; k++) scale += std::fabs(d[k]);
    if (scale == 0) {
      e[i] = d[i - 1];
      for (int j = 0; j < i; j++) {
        d[j] = V(i - 1, j);
        V(i, j) = V(j, i) = 0;
      }
    } else {
      for (int k = 0; k < i; k++) {
        d[k] /= scale;
        h += d[k] * d[k];
      }
      double f = d[i - 1], g = f > 0 ? -std::sqrt(h) : std::sqrt(h);
      e[i] = scale * g;
      h -= f * g;
      d[i - 1] = f - g;
      for (int j = 0; j < i; j++) e[j] = 0;
      for (int j = 0; j < i; j++) {
        f = d[j];
        V(j, i) = f;
        g = e[j] + V(j, j) * f;
        for (int k = j + 1; k < i; k++) {
          g += V(k, j) * d[k];
          e[k] += V(k, j) * f;
        }
        e[j] = g;
      }
      f = 0;
      for (int j = 0; j < i; j++) {
        e[j] /= h;
        f += e[j] * d[j];
      }
      double hh = f / (h + h);
      for (int j = 0; j < i; j++) e[j] -= hh * d[j];
      for (int j = 0; j < i; j++) {
        f = d[j];
        g = e[j];
        for (int k = j; k < i; k++) V(k, j) -= f * e[k] + g * d[k];
        d[j] = V(i - 1, j);
        V(i, j) = 0;
      }
    }
    d[i] = h;
  }
  for (int i = 0; i < n - 1; i++) {
    V(n - 1, i) = V(i, i);
    V(i, i) = 1;
    double h = d[i + 1];
    if (h != 0) {
      for (int k = 0; k <= i; k++) d[k] = V(k, i + 1) / h;
      for (int j = 0; j <= i; j++) {
        double g = 0;
        for (int k = 0; k <= i; k++) g += V(k, i + 1) * V(k, j);
        for (int k = 0; k <= i; k++) V(k, j) -= g * d[k];
      }
    }
    for (int k = 0; k <= i; k++) V(k, i + 1) = 0;
  }
  for (int j = 0; j < n; j++) {
    d[j] = V(n - 1, j);
    V(n - 1, j) = 0;
  }
  V(n - 1, n - 1) = 1;

  for (int i = 1; i < n; i++) e[i - 1] = e[i];
  e[n - 1] = 0;
  double shift = 0, largest = 0;
  for (int l = 0; l < n; l++) {
    largest = std::max(largest, std::fabs(d[l]) + std::fabs(e[l]));
    int m = l;
    while (std::fabs(e[m]) > EPSILON * largest) m++;
    for (int rounds = 0; m > l && std::fabs(e[l]) > EPSILON * largest; rounds++) {
      if (rounds == 60) return false;
      double g = d[l], p = (d[l + 1] - g) / (2 * e[l]), r = p < 0 ? -std::hypot(p, 1) : std::hypot(p, 1);
      d[l] = e[l] / (p + r);
      d[l + 1] = e[l] * (p + r);
      double dl1 = d[l + 1], h = g - d[l];
      for (int i = l + 2; i < n; i++) d[i] -= h;
      shift += h;
      p = d[m];
      double c = 1, c2 = 1, c3 = 1, el1 = e[l + 1], s = 0, s2 = 0;
      for (int i = m - 1; i >= l; i--) {
        c3 = c2;
        c2 = c;
        s2 = s;
        g = c * e[i];
        h = c * p;
        r = std::hypot(p, e[i]);
        e[i + 1] = s * r;
        s = e[i] / r;
        c = p / r;
        p = c * d[i] - s * g;
        d[i + 1] = h + s * (c * g + s * d[i]);
        double *left = &V(0, i), *right = &V(0, i + 1);
        for (int k = 0; k < n; k++) {
          double old = right[k];
          right[k] = s * left[k] + c * old;
          left[k] = c * left[k] - s * old;
        }
      }
      p = -s * s2 * c3 * el1 * e[l] / dl1;
      e[l] = s * p;
      d[l] = c * p;
    }
    d[l] += shift;
    e[l] = 0;
  }
  return true;
}

double dot(const double *a, const double *b, size_t count) {
  double sum = 0;
  for (size_t i = 0; i < count; i++) sum += a[i] * b[i];
  return sum;
}

/** Makes column j of q (m, ...) a unit vector orthogonal to those before it, near what it is if that is not null. */
void complete(std::vector<double> &q, size_t m, size_t j) {
  double *column = &q[j * m];
  for (size_t candidate = 0;; candidate++) {
    double length = std::sqrt(dot(column, column, m));
    bool good = length > 0;
    if (good) {
      for (size_t i = 0; i < m; i++) column[i] /= length;
      for (int twice = 0; twice < 2; twice++) {
        for (size_t k = 0; k < j; k++) {
          double along = dot(column, &q[k * m], m);
          for (size_t i = 0; i < m; i++) column[i] -= along * q[k * m + i];
        }
        if (twice == 0) good = dot(column, column, m) > 1e-4;
      }
    }
    if (good) {
      length = std::sqrt(dot(column, column, m));
      for (size_t i = 0; i < m; i++) column[i] /= length;
      return;
    }
    std::fill(column, column + m, 0.0);
    column[candidate] = 1;
  }
}

/**
 * One-sided Jacobi: turns pairs of columns of a (m, n), m >= n, until all are orthogonal.
 *
 * @param u gets the left singular vectors (m, left)
 * @param v gets the right singular vectors in its columns (n, n)
 */
bool singular(size_t m, size_t n, std::vector<double> a, size_t left, std::vector<double> &u, std::vector<double> &s,
              std::vector<double> &v) {
  for (double value : a) {
    if (!std::isfinite(value)) return false;
  }
  std::vector<double> turned(n * n);
  for (size_t i = 0; i < n; i++) turned[i * n + i] = 1;
  double all = dot(a.data(), a.data(), a.size());
  double negligible = EPSILON * EPSILON * all;
  bool done = false;
  for (int sweep = 0; sweep < 60 && !done; sweep++) {
    done = true;
    for (size_t p = 0; p + 1 < n; p++) {
      for (size_t q = p + 1; q < n; q++) {
        double *x = &a[p * m], *y = &a[q * m];
        double xx = dot(x, x, m), yy = dot(y, y, m), xy = dot(x, y, m);
        if (xy == 0 || std::fabs(xy) <= EPSILON * std::sqrt(xx) * std::sqrt(yy)) continue;
        // Columns that are nothing but rounding errors.
        if (xx <= negligible && yy <= negligible) continue;
        if (std::fabs(xy) > 8 * EPSILON * std::sqrt(xx) * std::sqrt(yy)) done = false;
        double zeta = (yy - xx) / (2 * xy);
        double t = (zeta < 0 ? -1 : 1) / (std::fabs(zeta) + std::hypot(1, zeta));
        double c = 1 / std::sqrt(1 + t * t), sine = c * t;
        auto turn = [&](double *first, double *second, size_t count) {
          for (size_t i = 0; i < count; i++) {
            double old = first[i];
            first[i] = c * old - sine * second[i];
            second[i] = sine * old + c * second[i];
          }
        };
        turn(x, y, m);
        turn(&turned[p * n], &turned[q * n], n);
      }
    }
  }
  if (!done) return false;
  std::vector<double> norms(n);
  for (size_t j = 0; j < n; j++) norms[j] = std::sqrt(dot(&a[j * m], &a[j * m], m));
  std::vector<size_t> order(n);
  std::iota(order.begin(), order.end(), size_t(0));
  std::stable_sort(order.begin(), order.end(), [&](size_t x, size_t y) { return norms[x] > norms[y]; });
  u.assign(m * left, 0);
  v.assign(n * n, 0);
  s.resize(n);
  for (size_t j = 0; j < n; j++) {
    s[j] = norms[order[j]];
    std::copy_n(&turned[order[j] * n], n, &v[j * n]);
    if (j < left) std::copy_n(&a[order[j] * m], m, &u[j * m]);
  }
  for (size_t j = 0; j < left; j++) {
    if (j < n && s[j] > 1e-13 * s[0]) {
      for (size_t i = 0; i < m; i++) u[j * m + i] /= s[j];
    } else {
      complete(u, m, j);
    }
  }
  return true;
}

}  // namespace

EXPORT int cusolverDnCreate(void **pointer) {
  if (emulated_cuda_ready() != 0) return NOT_INITIALIZED;
  auto *handle = new Handle();
  handles.insert(handle);
  *pointer = handle;
  return SUCCESS;
}

EXPORT int cusolverDnDestroy(void *pointer) {
  auto *handle = (Handle *)pointer;
  if (handles.erase(handle) == 0) return NOT_INITIALIZED;
  delete handle;
  return SUCCESS;
}

EXPORT int cusolverDnSetStream(void *pointer, void *stream) {
  FIND(pointer);
  handle->stream = stream;
  return SUCCESS;
}

EXPORT int cusolverDnGetStream(void *pointer, void **stream) {
  FIND(pointer);
  *stream = handle->stream;
  return SUCCESS;
}

EXPORT int cusolverGetVersion(int *version) {
  *version = 11604;
  return SUCCESS;
}

EXPORT int cusolverGetProperty(int type, int *value) {
  static const int VERSION[] = {11, 6, 4};
  if (type < 0 || type > 2) return INVALID_VALUE;
  *value = VERSION[type];
  return SUCCESS;
}

#define POTRF(letter, type)                                                                                             \
  EXPORT int cusolverDn##letter##potrf_bufferSize(void *pointer, int uplo, int n, type *, int lda, int *lwork) {         \
    FIND(pointer);                                                                                                      \
    EXPECT(uplo == LOWER || uplo == UPPER, __func__, "uplo", uplo, "0 or 1");                                            \
    EXPECT(n >= 0, __func__, "n", n, "at least 0");                                                                      \
    EXPECT_LEADING(__func__, "lda", lda, n);                                                                             \
    *lwork = workOfPotrf(n);                                                                                            \
    return SUCCESS;                                                                                                     \
  }                                                                                                                     \
  EXPORT int cusolverDn##letter##potrf(void *pointer, int uplo, int n, type *a, int lda, type *work, int lwork, int *info) { \
    return potrf(__func__, pointer, uplo, n, a, lda, work, lwork, info);                                                 \
  }
POTRF(S, float)
POTRF(D, double)

EXPORT int cusolverDnDsyevd_bufferSize(void *pointer, int jobz, int uplo, int n, const double *, int lda, const double *,
                                       int *lwork) {
  FIND(pointer);
  EXPECT(jobz == 0 || jobz == 1, __func__, "jobz", jobz, "0 or 1");
  EXPECT(uplo == LOWER || uplo == UPPER, __func__, "uplo", uplo, "0 or 1");
  EXPECT(n >= 0 && n <= 30000, __func__, "n", n, "0 to 30000");
  EXPECT_LEADING(__func__, "lda", lda, n);
  *lwork = workOfSyevd(n);
  return SUCCESS;
}

EXPORT int cusolverDnDsyevd(void *pointer, int jobz, int uplo, int n, double *a, int lda, double *w, double *work, int lwork,
                            int *info) {
  static const char *who = "cusolverDnDsyevd";
  FIND(pointer);
  EXPECT(jobz == 0 || jobz == 1, who, "jobz", jobz, "0 or 1");
  EXPECT(uplo == LOWER || uplo == UPPER, who, "uplo", uplo, "0 or 1");
  EXPECT(n >= 0 && n <= 30000, who, "n", n, "0 to 30000");
  EXPECT_LEADING(who, "lda", lda, n);
  EXPECT(lwork >= workOfSyevd(n), who, "lwork", lwork, "what the query said");
  return submit(
      handle, who, work, lwork, info,
      [=] {
        int status = checkTriangle(a, n, lda, (Fill)uplo, false, who);
        if (status == 0) status = checkMatrix(a, n, n, lda, true, who);
        return status != 0 ? status : emulated_cuda_check(w, sizeof(double) * n, 1, who);
      },
      [=] {
        std::vector<double> v((size_t)n * n), d(n);
        for (int j = 0; j < n; j++) {
          for (int i = 0; i < n; i++) {
            bool given = uplo == LOWER ? i >= j : i <= j;
            v[(size_t)j * n + i] = given ? a[(size_t)j * lda + i] : a[(size_t)i * lda + j];
          }
        }
        bool converged = n == 0 || eigen(n, v, d);
        std::vector<int> order(n);
        std::iota(order.begin(), order.end(), 0);
        if (converged) std::sort(order.begin(), order.end(), [&](int x, int y) { return d[x] < d[y]; });
        for (int j = 0; j < n; j++) {
          w[j] = converged ? d[order[j]] : NAN;
          for (int i = 0; i < n; i++) {
            a[(size_t)j * lda + i] = converged && jobz == 1 ? v[(size_t)order[j] * n + i] : NAN;
          }
          if (jobz == 0) emulated_cuda_forget(a + (size_t)j * lda, sizeof(double) * n);
        }
        return converged ? 0 : 1;
      });
}

EXPORT int cusolverDnDgesvd_bufferSize(void *pointer, int m, int n, int *lwork) {
  FIND(pointer);
  EXPECT(n >= 0, __func__, "n", n, "at least 0");
  EXPECT(m >= n, __func__, "m", m, "at least n");
  *lwork = workOfGesvd(m, n);
  return SUCCESS;
}

EXPORT int cusolverDnDgesvd(void *pointer, signed char jobu, signed char jobvt, int m, int n, double *a, int lda, double *s,
                            double *u, int ldu, double *vt, int ldvt, double *work, int lwork, double *, int *info) {
  static const char *who = "cusolverDnDgesvd";
  FIND(pointer);
  EXPECT(jobu == 'A' || jobu == 'S' || jobu == 'N', who, "jobu", jobu, "'A', 'S' or 'N'");
  EXPECT(jobvt == 'A' || jobvt == 'S' || jobvt == 'N', who, "jobvt", jobvt, "'A', 'S' or 'N'");
  EXPECT(n >= 0, who, "n", n, "at least 0");
  EXPECT(m >= n, who, "m", m, "at least n");
  EXPECT_LEADING(who, "lda", lda, m);
  if (jobu != 'N') EXPECT_LEADING(who, "ldu", ldu, m);
  if (jobvt != 'N') EXPECT_LEADING(who, "ldvt", ldvt, n);
  EXPECT(lwork >= workOfGesvd(m, n), who, "lwork", lwork, "what the query said");
  int left = jobu == 'A' ? m : jobu == 'S' ? n : 0;
  return submit(
      handle, who, work, lwork, info,
      [=] {
        int status = checkMatrix(a, m, n, lda, false, who);
        if (status == 0) status = emulated_cuda_check(s, sizeof(double) * n, 1, who);
        if (status == 0 && left > 0) status = checkMatrix(u, m, left, ldu, true, who);
        return status == 0 && jobvt != 'N' ? checkMatrix(vt, n, n, ldvt, true, who) : status;
      },
      [=] {
        std::vector<double> from((size_t)m * n), vectors, values(n), right;
        for (int j = 0; j < n; j++) std::copy_n(a + (size_t)j * lda, m, from.begin() + (size_t)j * m);
        bool converged = singular(m, n, from, left, vectors, values, right);
        for (int j = 0; j < n; j++) {
          s[j] = converged ? values[j] : NAN;
          poison(a + (size_t)j * lda, m);
        }
        for (int j = 0; j < left; j++) {
          for (int i = 0; i < m; i++) u[(size_t)j * ldu + i] = converged ? vectors[(size_t)j * m + i] : NAN;
        }
        for (int j = 0; j < n && jobvt != 'N'; j++) {
          for (int i = 0; i < n; i++) vt[(size_t)j * ldvt + i] = converged ? right[(size_t)i * n + j] : NAN;
        }
        return converged ? 0 : 1;
      });
}
