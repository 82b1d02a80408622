#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# check.sh [CHECK...]: checks that need no guest, except 'external'; one line per check
#
# A check without files to check fails.

source "$(dirname "${BASH_SOURCE[0]}")/lib/all.sh"

CHECKS=(format spdx shell python runner names mutants host litmus checkpatch kerneldoc modules clippy rustdoc refused external)

# some PATTERN...: sets FILES to tracked and new files; fails if there is none
some()
{
	mapfile -t FILES < <(git ls-files --cached --others --exclude-standard -- "$@" | sort -u |
		while read -r file; do
			[ ! -f "$file" ] || echo "$file"
		done)
	[ ${#FILES[@]} -gt 0 ] || { echo "there are no files like $*"; return 1; }
}

check_format()
{
	scripts/build.sh rustfmt --check
	# rustfmt leaves comments alone. Rows of tables may be longer.
	some '*.rs'
	! LC_ALL=C.UTF-8 grep -nE '^.{101}' "${FILES[@]}" | grep -E '^[^:]+:[0-9]+: *//[/!]? [^|]' || {
		echo "comments of more than 100 columns"
		return 1
	}
}

check_spdx()
{
	local file bad=

	some .
	for file in "${FILES[@]}"; do
		case $file in
		LICENSE|*Cargo.lock|qemu/tests/golden/*|qemu/configs/README) continue ;;
		esac
		head -n 5 "$file" | grep -q 'SPDX-License-Identifier: GPL-2.0' || {
			echo "$file: no SPDX-License-Identifier in its first lines"
			bad=y
		}
	done
	[ -z "$bad" ]
}

check_shell()
{
	local file scripts=()

	some .
	for file in "${FILES[@]}"; do
		if [[ $file == *.sh ]] || head -n 1 "$file" | grep -qaE '^#! ?/.*\b(ba)?sh$'; then
			scripts+=("$file")
		fi
	done
	[ ${#scripts[@]} -gt 0 ] || return 1
	shellcheck -x -P . "${scripts[@]}"
}

# Syntax, and undefined names.
check_python()
{
	some '*.py'
	pyflakes3 "${FILES[@]}"
}

check_runner()
{
	some 'qemu/tests/test_*.py'
	PYTHONDONTWRITEBYTECODE=1 KSRC=$KSRC_OF_CHECK python3 -m unittest discover -s qemu/tests -t qemu
}

# Names in comments and documents have to exist.
check_names()
{
	python3 scripts/names.py "$KSRC_OF_CHECK"
}

# Whether they apply; 'make mutants' runs them.
check_mutants()
{
	PYTHONDONTWRITEBYTECODE=1 python3 qemu/mutants.py --check
}

check_host()
{
	cd host
	export RUSTC RUSTDOC
	"$CARGO" test --locked --release
	# The same files under loom need another build, as its types work only in a model.
	RUSTFLAGS="--cfg loom" CARGO_TARGET_DIR=target/loom "$CARGO" test --locked --release
}

check_litmus()
{
	some 'host/litmus/C-*.litmus'
	host/litmus/run.sh "$KSRC_OF_CHECK"
}

# checkpatch.accept: FILE TYPE REASON per line; a line that matches nothing is an error
check_checkpatch()
{
	local out accept=scripts/checkpatch.accept file type reason bad=

	some '*.c' '*.h'
	out=$(perl "$KSRC_OF_CHECK/scripts/checkpatch.pl" --no-tree --strict --terse --show-types \
		--no-summary -f "${FILES[@]}") || true
	while read -r file type reason; do
		[[ -n $file && $file != '#'* ]] || continue
		[ -n "$reason" ] || { echo "$accept: $file $type: there is no reason"; bad=y; }
		grep -q "^$file:[0-9]*: [A-Z]*:$type: " <<<"$out" || {
			echo "$accept: $file $type: checkpatch no longer reports this: remove the line"
			bad=y
		}
		out=$(grep -v "^$file:[0-9]*: [A-Z]*:$type: " <<<"$out") || true
	done <"$accept"
	[ -z "$out" ] || echo "$out"
	[ -z "$out$bad" ]
}

check_kerneldoc()
{
	some 'include/linux/*.h'
	python3 "$KSRC_OF_CHECK/scripts/kernel-doc" -none -Wall -Werror "${FILES[@]}"
}

check_modules()
{
	local bare=$ROOT/build/bare runner=$ROOT/build/runner

	build_modules "${NAMES[0]}" "$KDIR_OF_SCENARIO" "$MODULES"
	[ -n "$(find "$MODULES" -name rcu_ptr.ko)" ] || { echo "there is no rcu_ptr.ko"; return 1; }
	no_warnings "$MODULES/build.log"
	has_words "$MODULES/Module.symvers" RCU_PTR_TEST
	build_modules "${NAMES[0]}" "$KDIR_OF_SCENARIO" "$bare" RCU_PTR_TEST=n RCU_PTR_ONLY=rcu_ptr
	no_warnings "$bare/build.log"
	has_words "$bare/Module.symvers" __rcu_ptr_kvfree
	! grep RCU_PTR_TEST "$bare/Module.symvers" || { echo "it has hooks for tests"; return 1; }
	# The suites as kernels without KUnit run them.
	build_modules "${NAMES[0]}" "$KDIR_OF_SCENARIO" "$runner" RCU_PTR_RUNNER=y \
		RCU_PTR_ONLY="rcu_ptr rcu_ptr_kunit"
	no_warnings "$runner/build.log"
	[ -n "$(find "$runner" -name suites_generated.rs)" ] || { echo "there are no generated suites"; return 1; }
}

no_warnings()
{
	! grep -E -A 12 '^warning|warning:' "$1"
}

# make_in DIRECTORY ARGUMENT...: as kernel people build, 'make -C $KDIR M=DIRECTORY'
make_in()
{
	local -a args

	mapfile -t args < <([ -e "$KDIR_OF_SCENARIO/GNUmakefile" ] || make_args)
	make -C "$KDIR_OF_SCENARIO" M="$1" "${args[@]}" "${@:2}"
}

# In a copy, as make_in builds in the source tree. A new one each time, as kbuild does not repeat warnings of what is
# up to date.
check_clippy()
{
	local copy=$ROOT/build/clippy

	[ -x "$CLIPPY_DRIVER" ] || { echo "$CLIPPY_DRIVER is missing"; return 1; }
	rm -rf "$copy"
	mkdir -p "$copy"
	some Kbuild rust include
	tar -c "${FILES[@]}" | tar -x -C "$copy"
	make_in "$copy" -j"$(nproc)" CLIPPY=1 >"$copy.log" 2>&1 || {
		cat "$copy.log"
		return 1
	}
	[ -e "$copy/rust/rcu_ptr/rcu_ptr.ko" ] || { echo "there is no rcu_ptr.ko"; return 1; }
	no_warnings "$copy.log"
	rm -rf "$copy"
}

# Kbuild has no rustdoc for modules: runs the saved commands of the crates with rustdoc.
check_rustdoc()
{
	local saved command crates=0

	[ -d "$MODULES" ] || { echo "$MODULES is missing: the modules are not built"; return 1; }
	while read -r saved; do
		command=$(saved_command "$saved")
		[[ $command == *" $RUSTC "*.rs* ]] || continue
		crates=$((crates + 1))
		document "$(dirname "$saved")" "$command"
	done < <(find "$MODULES" -name '.*.o.cmd' | sort)
	[ "$crates" -gt 0 ] || { echo "no crate was found under $MODULES"; return 1; }
	echo "$crates crates"
}

# document OBJECT-DIRECTORY RUSTC-COMMAND
document()
{
	local words word skip=''
	local -a args=()
	# As in the kernel's Makefile: unstable features with any compiler.
	local -a environment=(RUSTC_BOOTSTRAP=1 "RCU_PTR_GENERATED=$1/bindings_generated.rs")

	# The saved command is shell code.
	eval "words=($2)"
	echo "${words[-1]}"
	for word in "${words[@]}"; do
		case $skip$word in
		skip*) skip='' ;;
		"$RUSTC") args+=("$RUSTDOC") ;;
		--crate-type|--out-dir) skip=skip ;;
		--emit*|-o*|-Ccodegen-units*|-Copt-level*|-Cdebuginfo*|-Cembed-bitcode*) ;;
		[A-Z]*=*) environment+=("$word") ;;
		*) args+=("$word") ;;
		esac
	done
	(cd "$MODULES" && env "${environment[@]}" "${args[@]}" --document-private-items -Dwarnings \
		--out-dir "$ROOT/build/doc")
}

# Code that must not compile with rust/api: the cases of rust/api/refused.rs, compiled with the command of a client.
check_refused()
{
	local saved=$MODULES/rust/clients/rust/.rcu_ptr_client_rs.o.cmd command root case bad=
	local source=$ROOT/rust/api/refused.rs
	local -a cases

	[ -e "$saved" ] || { echo "$saved is missing: the modules are not built"; return 1; }
	command=$(saved_command "$saved")
	api_examples >"$ROOT/build/check/examples.rs"
	for root in "$ROOT/rust/clients/rust/rcu_ptr_client_rs.rs" "$ROOT/build/check/examples.rs" "$source"; do
		compile_client "$command" "$root" || { echo "$root has to compile"; return 1; }
	done
	mapfile -t cases < <(sed -n 's/^#\[cfg(\(.*\))\]$/\1/p' "$source")
	[ ${#cases[@]} -gt 0 ] || { echo "there are no cases in $source"; return 1; }
	for case in "${cases[@]}"; do
		is_refused "$command" "$source" "$case" || bad=y
	done
	[ -z "$bad" ]
}

# api_examples: prints the examples in the docs of rust/api, a module each, as rustdoc can't build them with the kernel
api_examples()
{
	echo "#[path = \"$ROOT/rust/api/mod.rs\"]"
	echo "pub mod rcu_ptr;"
	# As in module!, for pr_info!().
	printf '%s\n' 'const __LOG_PREFIX: &[u8] = b"example\0";'
	awk '/^\/\/[\/!] ```ignore$/ { inside = 1; print "#[allow(dead_code)]\nmod example_" ++n " {"; next }
	     inside && /^\/\/[\/!] ```$/ { inside = 0; print "}"; next }
	     inside { sub(/^\/\/[\/!] ?/, ""); sub(/^# /, ""); print }' "$ROOT"/rust/api/*.rs
}

# saved_command FILE: prints the command that kbuild saved, without later ones
saved_command()
{
	local command

	# shellcheck disable=SC2016 # as make writes it
	command=$(sed -n 's/^savedcmd_[^ ]* := //p' "$1" | sed 's/\$(pound)/#/g; s/\$\$/$/g')
	echo "${command%%;*}"
}

# compile_client COMMAND FILE OPTION...: runs COMMAND on FILE instead of its source; prints the output of rustc
compile_client()
{
	local -a words

	# The saved command is shell code.
	eval "words=($1)"
	words=("${words[@]/#--emit=*/--emit=obj=$ROOT/build/check/refused.o}")
	words[-1]=$2
	(
		cd "$MODULES"
		env RUSTC_BOOTSTRAP=1 RCU_PTR_GENERATED="$MODULES/rust/clients/rust/bindings_generated.rs" \
			"${words[@]}" "${@:3}" 2>&1
	)
}

# is_refused COMMAND FILE CASE: checks that rustc reports exactly the errors '// error: CODE' of this case in FILE, and
# that its output contains each '// says: TEXT'
is_refused()
{
	local out text marks want got bad=

	if out=$(compile_client "$1" "$2" --cfg "$3"); then
		echo "$3: compiles"
		return 1
	fi
	# The lines between the end of the previous case and the name of this one.
	marks=$(sed "/^#\[cfg($3)\]/q" "$2" | tac | sed '/^}/q')
	want=$(sed -n 's,^// error: ,,p' <<<"$marks" | sort)
	# Errors have codes; the last line, which counts them, has none.
	got=$(sed -n -e 's/^error\[\(.*\)\]: .*/\1/p' -e '/^error: aborting due to/d' -e 's/^error: //p' <<<"$out" | sort)
	[ "$got" = "$want" ] || bad=y
	while read -r text; do
		grep -qF -- "$text" <<<"$out" || { echo "$3: nothing says '$text'"; bad=y; }
	done < <(sed -n 's,^// says: ,,p' <<<"$marks")
	[ -n "$bad" ] || { echo "$3: refused"; return 0; }
	echo "$3: the errors are not those expected:"
	echo "$out"
	return 1
}

# has_words FILE WORD...: checks that it contains all of them
has_words()
{
	local word

	for word in "${@:2}"; do
		grep -qa "$word" "$1" || { echo "there is no $word in $1"; return 1; }
	done
}

# A C module outside this tree, with only the header and Module.symvers: it can be built, and in the guest loaded, used
# and unloaded.
check_external()
{
	local away arch

	[ -e "$MODULES/Module.symvers" ] || { echo "$MODULES/Module.symvers is missing"; return 1; }
	away=$(mktemp -d)
	# shellcheck disable=SC2064 # expanded now
	trap "rm -rf '$away'" EXIT
	mkdir -p "$away/include/linux"
	cp include/linux/rcu_ptr.h "$away/include/linux"
	cp rust/clients/c/rcu_ptr_client_c.c "$away/outsider.c"
	# shellcheck disable=SC2016 # as make is to read it
	printf '%s\n' 'obj-m := outsider.o' 'ccflags-y := -I$(src)/include' >"$away/Kbuild"
	make_in "$away" KBUILD_EXTRA_SYMBOLS="$MODULES/Module.symvers" modules
	has_words "$away/outsider.ko" __rcu_ptr_kvfree __rcu_ptr_kvfree_mightsleep rcu_ptr_barrier
	mkdir "$away/rust"
	sed -e "s|\.\./\.\./api|$ROOT/rust/api|" -e 's/rcu_ptr_client_rs/outsider_rs/' \
		rust/clients/rust/rcu_ptr_client_rs.rs >"$away/rust/outsider_rs.rs"
	# shellcheck disable=SC2016 # as make is to read it
	printf '%s\n' 'obj-m := outsider_rs.o' "RCU_PTR := $ROOT" 'include $(RCU_PTR)/rust/api/client.mk' \
		>"$away/rust/Kbuild"
	make_in "$away/rust" KBUILD_EXTRA_SYMBOLS="$MODULES/Module.symvers" modules
	mkdir -p "$MODULES/external"
	cp "$away/outsider.ko" "$away/rust/outsider_rs.ko" "$MODULES/external"
	arch=$(scenario_arch "${NAMES[0]}")
	need "$arch"
	guest_busybox "$arch"
	python3 qemu/run.py test --out "$ROOT/out" --plan external \
		--objdump "$(find_objdump "$KDIR_OF_SCENARIO")" \
		--scenario "${NAMES[0]}:$KDIR_OF_SCENARIO:$MODULES:$BUSYBOX"
}

[ $# -gt 0 ] || set -- "${CHECKS[@]}"
for check; do
	[[ " ${CHECKS[*]} " == *" $check "* ]] || die "there is no check '$check'; there are: ${CHECKS[*]}"
done
check_variables
choose_scenarios run
need build check
kernel_of "${NAMES[0]}"
KSRC_OF_CHECK=${KERNEL_SOURCE:-$(readlink -f "$KDIR_OF_SCENARIO/source")}
MODULES=$(modules_directory "${NAMES[0]}")
toolchain_of "$KDIR_OF_SCENARIO"
cd "$ROOT"
mkdir -p build/check

failed=()
for check; do
	start=$SECONDS
	say "$check ..."
	# In a subshell, as 'set -e' has no effect in the condition of an 'if'.
	set +e
	(
		set -e
		"check_$check"
	) >"build/check/$check.log" 2>&1 </dev/null
	rc=$?
	set -e
	if [ "$rc" -eq 0 ]; then
		echo "ok    $check ($(elapsed "$start"))"
	else
		echo "FAIL  $check ($(elapsed "$start")), see build/check/$check.log:"
		tail -n 40 "build/check/$check.log" | sed 's/^/      /'
		failed+=("$check")
	fi
done
for check in "${failed[@]}"; do
	echo "# FAILED make check: $check"
	# The lines with errors, or the last ones.
	{
		grep -E '^(FAIL|ERROR|error|warning)|^not ok|[0-9]: |panicked' "build/check/$check.log" ||
			tail -n 3 "build/check/$check.log"
	} | head -n 3 | cut -c 1-200 | sed 's/^/#     /' || true
	echo "#   log: $ROOT/build/check/$check.log"
done
echo "$(($# - ${#failed[@]})) passed, ${#failed[@]} failed, 0 skipped"
[ ${#failed[@]} -eq 0 ]
