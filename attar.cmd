@echo off
rem Runs the attar command: builds on first use, starts the program. Needs a JDK 25 (JAVA_HOME, or java on PATH) and Maven.
setlocal
set "root=%~dp0"
set "java=java"
if defined JAVA_HOME set "java=%JAVA_HOME%\bin\java"
if not exist "%root%cli\target\built" (
  echo attar: building attar ^(first use^) ... 1>&2
  pushd "%root%"
  call mvn -q -B package -Dmaven.test.skip=true -pl cli -am 1>&2
  if errorlevel 1 (
    popd
    echo attar: the build failed 1>&2
    exit /b 1
  )
  popd
)
"%java%" --add-modules jdk.incubator.vector --enable-native-access=ALL-UNNAMED -XX:+UseSerialGC -Xms32m -Xmx448m %ATTAR_JAVA_OPTS% -jar "%root%cli\target\attar.jar" %*
exit /b %ERRORLEVEL%
