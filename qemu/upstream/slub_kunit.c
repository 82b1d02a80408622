// SPDX-License-Identifier: GPL-2.0
/*
 * slub_kunit.ko, from the source of the kernel that it is built for, if that has no
 * KUnit: the part of KUnit that its cases need, with results in the same form.  The slab
 * counts its reports for KUnit only, so cases that provoke any can't pass.
 */
#include <kunit/test.h>
#include <linux/glob.h>
#include <linux/module.h>

#undef KUNIT_EXPECT_EQ
#define KUNIT_EXPECT_EQ(test, left, right)				\
	do {								\
		if ((left) != (right)) {				\
			pr_err("    # EXPECTATION FAILED at %s:%d\n",	\
			       __FILE__, __LINE__);			\
			kunit_set_failure(test);			\
		}							\
	} while (0)

#undef kunit_skip
#define kunit_skip(test, ...)						\
	do {								\
		kunit_mark_skipped(test, __VA_ARGS__);			\
		return;							\
	} while (0)

#undef kunit_info
#define kunit_info(test, fmt, ...)					\
	pr_info("    # %s: " fmt, (test)->name, ##__VA_ARGS__)

#define kunit_add_named_resource(test, init, free, res, name, data)	\
	((void)(res))

#undef kunit_test_suite
#define kunit_test_suite(suite)	static struct kunit_suite suite

#include <../lib/tests/slub_kunit.c>

static char *filter_glob = "*";
module_param(filter_glob, charp, 0);
MODULE_PARM_DESC(filter_glob, "the cases that run: slub_test.CASE, a glob");

static bool is_selected(const struct kunit_case *test_case)
{
	const char *glob = strchr(filter_glob, '.');

	return glob_match(glob ? glob + 1 : "*", test_case->name);
}

static int __init slub_kunit_init(void)
{
	static struct kunit test;
	unsigned int count = 0, number = 0, of[KUNIT_SKIPPED + 1] = {};
	struct kunit_suite *suite = &test_suite;
	struct kunit_case *test_case;

	kunit_suite_for_each_test_case(suite, test_case)
		count += is_selected(test_case);
	pr_info("KTAP version 1\n");
	pr_info("1..1\n");
	pr_info("    KTAP version 1\n");
	pr_info("    # Subtest: %s\n", suite->name);
	pr_info("    1..%u\n", count);
	kunit_suite_for_each_test_case(suite, test_case) {
		if (!is_selected(test_case))
			continue;
		memset(&test, 0, sizeof(test));
		test.name = test_case->name;
		suite->init(&test);
		test_case->run_case(&test);
		of[test.status]++;
		pr_info("    %s %u %s%s%s\n", kunit_status_to_ok_not_ok(test.status),
			++number, test_case->name,
			test.status == KUNIT_SKIPPED ? " # SKIP " : "",
			test.status_comment);
	}
	pr_info("# %s: pass:%u fail:%u skip:%u total:%u\n", suite->name,
		of[KUNIT_SUCCESS], of[KUNIT_FAILURE], of[KUNIT_SKIPPED], count);
	pr_info("%s 1 %s\n", of[KUNIT_FAILURE] ? "not ok" : "ok", suite->name);
	return 0;
}
module_init(slub_kunit_init);

static void __exit slub_kunit_exit(void)
{
}
module_exit(slub_kunit_exit);
