# Each target installs what it needs by itself: git, make and Python >= 3.12 are enough.
VENV := .venv
BIN := $(VENV)/bin
# Version-manager shims lie about what they are: only running a candidate tells.
FIND_PYTHON = for p in $$PYTHON python3.12 python3.13 python3.14 python3 python \
	$$(ls -d $$HOME/.pyenv/versions/3.1[2-9]*/bin/python3 /opt/*/bin/python3.1[2-9] /usr/local/bin/python3.1[2-9] 2>/dev/null); do \
	"$$p" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 12))' >/dev/null 2>&1 && { echo "$$p"; break; }; done

.PHONY: demo test check format .venv clean
.venv: $(VENV)/installed

$(VENV)/installed: requirements.txt requirements-dev.txt
	@python=$$($(FIND_PYTHON)); \
	test -n "$$python" || { echo "Countersign needs Python 3.12 or newer with venv; none was found. Install one, or say where it is: make PYTHON=/path/to/python3.12"; exit 1; }; \
	test -x $(BIN)/python && $(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 12))' 2>/dev/null || { rm -rf $(VENV); echo "Making $(VENV) with $$python"; "$$python" -m venv $(VENV); }; \
	echo "Installing the packages of requirements.txt and requirements-dev.txt, about a minute…"; \
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt -r requirements-dev.txt
	@touch $@

demo: .venv
	@$(BIN)/python -m bot sandbox

test: .venv
	@$(BIN)/python -m pytest

check: .venv
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache

format: .venv
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

requirements.txt requirements-dev.txt: pyproject.toml
	@true

.PHONY: pins
pins:
	$(BIN)/python -m pip install --quiet pip-tools
	cd . && $(BIN)/pip-compile --quiet --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --strip-extras -o requirements.txt pyproject.toml
	cd . && $(BIN)/pip-compile --quiet --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --strip-extras --extra dev -c requirements.txt -o requirements-dev.txt pyproject.toml
