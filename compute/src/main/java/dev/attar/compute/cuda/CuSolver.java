package dev.attar.compute.cuda;

/** The functions of cuSOLVER that are used, by the foreign-function API: no jar of JCuda has those of its version. */
final class CuSolver {

  static final int ALLOC_FAILED = 2;

  private CuSolver() {}

  static String statusName(int status) {
    return "CUSOLVER_STATUS_" + status;
  }
}
