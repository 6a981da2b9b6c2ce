# What a developer and CI call. `make` alone lists it.
#
# Everything runs in .venv, which is built when it is missing or when pyproject.toml changed.

# Floors of branch coverage, in percent: of the package, and of its engine.
FLOOR = 95
FLOOR_ENGINE = 100
ENGINE = flask_knitperf/core/*,flask_knitperf/metrics/*,flask_knitperf/storage/*,flask_knitperf/recording/*

# Processes that run tests: as many as cores. `make test JOBS=0` runs them one after another.
JOBS = logical
# `make test TESTS=tests/core` runs a part, with its slow tests.
TESTS =
# Folders whose tests of twin classes run once more in Python; tests/conftest.py marks these tests.
TWIN_TESTS = $(or $(TESTS),tests/recording tests/instrumentation tests/collectors/requests tests/collectors/sql)
# Tests that run with the parts in C built for AddressSanitizer and UndefinedBehaviorSanitizer.
SANITIZED_TESTS = tests/recording tests/instrumentation tests/collectors/sql/test_fastpath.py tests/collectors/sql/test_speedups.py
# The Python of .venv; searched for when empty.
PYTHON =
# The browser for the tests of the pages; searched for when empty.
CHROMIUM ?=

PY = .venv/bin/python
# Processes take over tests from one another, so that none is idle at the end.
PARALLEL = -n $(JOBS) --dist worksteal

ifeq (,$(filter oneshell,$(.FEATURES)))
$(error This needs GNU make 3.82 or newer; on macOS: brew install make, then gmake)
endif
SHELL = /bin/sh
.SHELLFLAGS = -ec
.ONESHELL:
.NOTPARALLEL:
.DEFAULT_GOAL = help
MAKEFLAGS += --no-print-directory
export CHROMIUM
# Tests start hundreds of interpreters: what they import is compiled once.
unexport PYTHONDONTWRITEBYTECODE

# Shell functions for the recipes below. A version manager may put a python3.12 on PATH that only
# prints that it is not installed, so an interpreter counts if it really ran.
define FUNCTIONS
say() { printf '\n== %s\n' "$$*"; }
fail() { printf '\nStopped: %s\n' "$$*" >&2; exit 1; }
runs() { "$$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }
has_venv() { runs "$$1" && "$$1" -c 'import venv, ensurepip' >/dev/null 2>&1; }
is() { "$$1" -c "import sys; sys.exit('%d.%d' % sys.version_info[:2] != '$$2')" >/dev/null 2>&1; }
interpreter() { # prints the path of Python $$1, e.g. 3.12
    for program in "$$(command -v "python$$1" || :)" \
            "$${PYENV_ROOT:-$$HOME/.pyenv}/versions/$$1".*/bin/python /usr/local/bin/python$$1 \
            "$$(command -v python3 || :)"; do
        if [ -n "$$program" ] && is "$$program" "$$1"; then
            "$$program" -c 'import os, sys; print(os.path.realpath(sys.executable))'
            return 0
        fi
    done
    return 1
}
any_python() { # prints a Python with the module venv, else one without
    for program in python3 python python3.13 python3.12 python3.11 \
            "$$(interpreter 3.13)" "$$(interpreter 3.12)" "$$(interpreter 3.11)"; do
        if has_venv "$$program"; then command -v "$$program"; return 0; fi
    done
    for program in python3 python python3.13 python3.12 python3.11; do
        if runs "$$program"; then command -v "$$program"; return 0; fi
    done
    return 1
}
endef
export FUNCTIONS

.PHONY: help env browser lint test sanitize demo demo-compare prove pictures matrix schemas docs clean

help: ## list the targets
	@printf 'make …\n'
	sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1\t\2/p' Makefile | expand -t 17

env: ## build .venv, if it is missing or out of date
	@eval "$$FUNCTIONS"
	stamp="$$(cat pyproject.toml flask_knitperf/__init__.py flask_knitperf/recording/_speedups.h flask_knitperf/recording/_speedups.c flask_knitperf/collectors/sql/_speedups.c | cksum) $(PYTHON) $$PWD"
	if runs $(PY) && [ "$$(cat .venv/stamp 2>/dev/null || :)" = "$$stamp" ]; then exit 0; fi
	python="$(PYTHON)"
	[ -n "$$python" ] || python="$$(any_python)" || fail "this needs Python 3.11 or newer, and there is none. Install one, or name it: make test PYTHON=/path/to/python3"
	runs "$$python" || fail "$$python is not Python 3.11 or newer."
	has_venv "$$python" || fail "$$python has no venv module. On Debian and Ubuntu: apt-get install python3-venv"
	say "Building the environment in .venv with $$("$$python" --version) (a minute or two)"
	rm -rf .venv
	"$$python" -m venv .venv || fail "the environment could not be created in .venv; the reason is above."
	$(PY) -m pip install --quiet --disable-pip-version-check --no-compile --editable '.[dev]' || fail "the packages could not be installed; the reason is above. Is a package index reachable?"
	# on all cores, and without the tests of pandas and numpy, which are half of it all
	$(PY) -m compileall -j 0 -qq -x '/tests/' .venv || : # some packages hold templates of Python files
	printf '%s' "$$stamp" > .venv/stamp

browser:
	@eval "$$FUNCTIONS"
	for program in "$$CHROMIUM" chromium chromium-browser google-chrome; do
		if [ -n "$$program" ] && command -v "$$program" >/dev/null; then exit 0; fi
	done
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
		say "Installing Chromium with apt-get: the tests open the pages in a real browser"
		export DEBIAN_FRONTEND=noninteractive
		apt-get update -qq && apt-get install -yqq --no-install-recommends chromium fonts-liberation >/dev/null || fail "Chromium could not be installed; the reason is above."
		exit 0
	fi
	fail "the tests open the pages in a real browser, and there is no Chromium. Install it (Debian: apt-get install chromium), or name it: make test CHROMIUM=/path/to/chromium"

lint: env ## style, types (Linux and Windows), the layers of imports, and the script of the pages
	@eval "$$FUNCTIONS"
	say "ruff: style"
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	say "mypy: types, on Linux and on Windows"
	# side by side, and each with a cache, because a cache of one platform is of no use to the other
	mkdir -p .mypy_cache
	$(PY) -m mypy --platform win32 --cache-dir .mypy_cache/win32 >.mypy_cache/win32.txt 2>&1 & windows=$$!
	$(PY) -m mypy --platform linux --cache-dir .mypy_cache/linux
	wait $$windows || { cat .mypy_cache/win32.txt >&2; fail "types on Windows; see above."; }
	cat .mypy_cache/win32.txt
	say "import-linter: imports point down"
	$(PY) -c 'import sys; from importlinter.cli import lint_imports_command; sys.exit(lint_imports_command())'
	say "tsc, eslint: types and style of the script of the pages"
	cd tests/web/script
	if ! command -v npm >/dev/null; then
		echo "Skipped: there is no npm on this machine."
	elif [ node_modules/.package-lock.json -nt package-lock.json ] || npm ci --silent --no-audit --no-fund --ignore-scripts --fetch-retries 0 --fetch-timeout 60000; then
		npm run --silent lint || fail "the script of the pages; see above."
	else
		echo "Skipped: npm could not install the packages that check the script; the reason is above."
	fi

test: env browser lint ## all checks, and all tests but the slow ones
	@eval "$$FUNCTIONS"
	say "pytest: $(or $(TESTS),all tests but the slow ones)"
	$(PY) -m pytest $(PARALLEL) $(or $(TESTS),-m "not slow")
	say "pytest: the tests of twin classes, with those in Python, as without a compiler"
	KNITPERF_PURE_PYTHON=1 $(PY) -m pytest $(PARALLEL) -q -m "twin$(if $(TESTS),, and not slow)" $(TWIN_TESTS) || [ $$? = 5 ] # 5: none there
	say "All tests$(and $(TESTS), of $(TESTS)) passed"

coverage: env browser ## all tests, the slow ones too, with the floors of coverage; half an hour
	@eval "$$FUNCTIONS"
	say "pytest: all tests, with branch coverage"
	$(PY) -m coverage erase
	$(PY) -m coverage run -m pytest $(PARALLEL)
	KNITPERF_PURE_PYTHON=1 $(PY) -m coverage run -m pytest $(PARALLEL) -q -m twin $(TWIN_TESTS)
	$(PY) -m coverage combine --quiet
	rm -f .coverage.* # files that killed servers left incomplete
	say "coverage: at least $(FLOOR) % of the package, $(FLOOR_ENGINE) % of its engine"
	$(PY) -m coverage report --fail-under=$(FLOOR)
	$(PY) -m coverage report --fail-under=$(FLOOR_ENGINE) --include='$(ENGINE)' || fail "the engine ($(ENGINE)) must be covered by $(FLOOR_ENGINE) %; the lines are above."

# A report ends the process; that of a child whose end no test checks is found by its file.
sanitize: env ## the tests of the parts in C, under AddressSanitizer and UBSan
	@eval "$$FUNCTIONS"
	command -v gcc >/dev/null || fail "this needs gcc with its sanitizers (Debian: apt-get install gcc)."
	python="$$PWD/$(PY)"
	copy="$$(mktemp -d)"
	trap 'rm -rf "$$copy"' EXIT
	cp -R flask_knitperf tests setup.cfg pyproject.toml "$$copy"
	find "$$copy" -name '_speedups.*.so' -delete
	cd "$$copy"
	say "gcc: the parts in C, with warnings as errors"
	suffix="$$($$python -c 'import sysconfig; print(sysconfig.get_config_var("EXT_SUFFIX"))')"
	include="$$($$python -c 'import sysconfig; print(sysconfig.get_path("include"))')"
	for part in recording collectors/sql; do
		gcc -shared -fPIC -O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all -Wall -Wextra -Werror "-I$$include" "flask_knitperf/$$part/_speedups.c" -o "flask_knitperf/$$part/_speedups$$suffix"
	done
	say "pytest: their tests"
	export LD_PRELOAD="$$(gcc -print-file-name=libasan.so) $$(gcc -print-file-name=libstdc++.so)"
	export PYTHONMALLOC=malloc PYTHONPATH="$$copy"
	export ASAN_OPTIONS="detect_leaks=0:log_path=$$copy/report" UBSAN_OPTIONS="print_stacktrace=1:log_path=$$copy/report"
	$$python -c 'from flask_knitperf.collectors.sql.fastpath import COMPILED; assert COMPILED'
	status=0
	$$python -m pytest -q -n 0 -p no:cacheprovider --capture=sys $(SANITIZED_TESTS) || status="$$?"
	unset LD_PRELOAD
	if ls "$$copy"/report* >/dev/null 2>&1; then cat "$$copy"/report*; fail "a sanitizer reported what is above."; fi
	[ "$$status" = 0 ] || fail "tests failed or were aborted under the sanitizers (status $$status)."
	say "No report of a sanitizer"

demo: env ## serve the demo mill under gunicorn, send it traffic, print where its report is
	@$(PY) -m demo_app serve --gunicorn --workers 4

demo-compare: env ## replay the same requests in the sick and the repaired mill
	@$(PY) -m demo_app compare

prove: env ## run all tests, and measure every published figure; NAMES="overhead queries" some
	@eval "$$FUNCTIONS"
	[ -n "$(NAMES)" ] || $(MAKE) coverage
	say "Installing the peers"
	$(PY) -m pip install --quiet --disable-pip-version-check --editable '.[peers]' || fail "the peers could not be installed; the reason is above."
	$(PY) -m benchmarks $(NAMES)

matrix: env ## the tests of `make test` with other Pythons, Flask and pandas, lowest and newest
	@eval "$$FUNCTIONS"
	mkdir -p .tox
	$(PY) -c "$$LOWEST" > .tox/lowest.txt
	chosen=''
	for version in 3.11 3.12 3.13; do
		names="$$($(PY) -m tox list --no-desc -q 2>/dev/null | grep "^py$$(echo $$version | tr -d .)-" || :)"
		if path="$$(interpreter $$version)"; then
			say "Python $$version: $$path"
			chosen="$$chosen $$names"
			PATH="$$(dirname "$$path"):$$PATH"
		else
			say "Python $$version was not found on this machine; left out:" $$names
		fi
	done
	[ -n "$$chosen" ] || fail "no Python of 3.11, 3.12 and 3.13 was found."
	export PATH
	$(PY) -m tox run -e "$$(echo $$chosen | tr ' ' ,)"

# The lower bounds of pyproject.toml as pins.
define LOWEST
import re, sys, tomllib
with open("pyproject.toml", "rb") as file:
    project = tomllib.load(file)["project"]
extras = project["optional-dependencies"]
names = ("apprise", "demo", "explain", "sqlalchemy", "test", "xxhash")
for package in project["dependencies"] + [package for name in names for package in extras[name]]:
    if ">=" in package:
        print(re.sub(">=", "==", package, count=1))
endef
export LOWEST

schemas: env ## write the JSON Schemas of the reports from their types
	@$(PY) -m flask_knitperf.reports.json_schema

pictures: env browser ## write the pictures of README and docs from the demo mill
	@$(PY) -m benchmarks.pictures

docs: env ## build the documentation in docs/_build/html; a warning is an error
	@$(PY) -m sphinx -W --keep-going -q -b html docs docs/_build/html
	printf 'Open docs/_build/html/index.html\n'

clean: ## remove everything that was built, .venv too
	@rm -rf .venv .tox .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	rm -rf .coverage .coverage.* htmlcov build dist docs/_build tests/web/script/node_modules ./*.egg-info
	find flask_knitperf \( -name '_speedups.*.so' -o -name '_speedups.*.pyd' \) -delete
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
