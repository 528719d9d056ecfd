#include "cmdline.h"

#define MULTIBOOT_INFO_CMDLINE BIT(2)

static const char *line = "";

void cmdline_init(u32 info)
{
	const u32 *words = (const u32 *)(u64)info;

	if (words[0] & MULTIBOOT_INFO_CMDLINE)
		line = (const char *)(u64)words[4];
}

bool text_equal(const char *a, const char *b)
{
	while (*a && *a == *b) {
		a++;
		b++;
	}
	return *a == *b;
}

static bool is_space(char c)
{
	return c == ' ' || c == '\t';
}

bool cmdline_value(const char *key, char *value, size_t size)
{
	for (const char *p = line; *p;) {
		const char *k = key;
		size_t n = 0;

		while (is_space(*p))
			p++;
		while (*k && *p == *k) {
			p++;
			k++;
		}
		if (!*k && *p == '=') {
			for (p++; *p && !is_space(*p) && n + 1 < size; p++)
				value[n++] = *p;
			value[n] = 0;
			return true;
		}
		while (*p && !is_space(*p))
			p++;
	}
	return false;
}

bool cmdline_is(const char *key, const char *value)
{
	char text[32];

	return cmdline_value(key, text, sizeof(text)) && text_equal(text, value);
}

u64 cmdline_number(const char *key, u64 fallback)
{
	char text[32];
	const char *p = text;
	u64 n = 0;

	if (!cmdline_value(key, text, sizeof(text)) || !*text)
		return fallback;
	for (; *p >= '0' && *p <= '9'; p++)
		n = n * 10 + (u64)(*p - '0');
	switch (*p) {
	case 'g':
		n *= 1000; /* fall through */
	case 'm':
		n *= 1000; /* fall through */
	case 'k':
		n *= 1000;
		p++;
	}
	return *p ? fallback : n;
}
