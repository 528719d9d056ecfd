#include "console.h"

#include "cpu.h"

#include <stdarg.h>

#define COM1 0x3f8
#define LSR_THR_EMPTY BIT(5)

void console_init(void)
{
	outb(COM1 + 1, 0x00); /* no interrupts */
	outb(COM1 + 3, 0x80); /* divisor latch: 115200 baud */
	outb(COM1 + 0, 0x01);
	outb(COM1 + 1, 0x00);
	outb(COM1 + 3, 0x03); /* 8 data bits, no parity, 1 stop bit */
	outb(COM1 + 2, 0x00); /* no FIFO */
	outb(COM1 + 4, 0x03); /* DTR, RTS */
}

void console_putc(char c)
{
	if (c == '\n')
		console_putc('\r');
	while (!(inb(COM1 + 5) & LSR_THR_EMPTY))
		;
	outb(COM1, (u8)c);
}

struct spec {
	unsigned width;
	char pad;
	bool left, prefix;
};

static void put_padded(const char *text, size_t length, struct spec spec)
{
	size_t fill = spec.width > length ? spec.width - length : 0;

	if (!spec.left)
		for (; fill; fill--)
			console_putc(spec.pad);
	for (; length; length--)
		console_putc(*text++);
	for (; fill; fill--)
		console_putc(' ');
}

static void put_number(u64 value, unsigned base, bool negative, struct spec spec)
{
	char digits[24];
	char *p = digits + sizeof(digits);

	do
		*--p = "0123456789abcdef"[value % base];
	while (value /= base);
	if (base == 16 && spec.prefix) {
		*--p = 'x';
		*--p = '0';
	}
	if (negative)
		*--p = '-';
	put_padded(p, (size_t)(digits + sizeof(digits) - p), spec);
}

static size_t length_of(const char *text)
{
	size_t n = 0;

	while (text[n])
		n++;
	return n;
}

void print(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	for (; *format; format++) {
		struct spec spec = {.pad = ' '};
		bool is_long = false;
		char c;

		if (*format != '%') {
			console_putc(*format);
			continue;
		}
		format++;
		for (; *format == '-' || *format == '#'; format++)
			*(*format == '-' ? &spec.left : &spec.prefix) = true;
		if (*format == '0')
			spec.pad = *format++;
		for (; *format >= '0' && *format <= '9'; format++)
			spec.width = spec.width * 10 + (unsigned)(*format - '0');
		for (; *format == 'l'; format++)
			is_long = true;
		switch (*format) {
		case 's': {
			const char *text = va_arg(args, const char *);
			put_padded(text, length_of(text), spec);
			break;
		}
		case 'c':
			c = (char)va_arg(args, int);
			put_padded(&c, 1, spec);
			break;
		case 'd': {
			long value = is_long ? va_arg(args, long) : va_arg(args, int);
			put_number(value < 0 ? -(u64)value : (u64)value, 10, value < 0, spec);
			break;
		}
		case 'u':
			put_number(is_long ? va_arg(args, u64) : va_arg(args, u32), 10, false, spec);
			break;
		case 'x':
			put_number(is_long ? va_arg(args, u64) : va_arg(args, u32), 16, false, spec);
			break;
		default:
			console_putc(*format);
		}
	}
	va_end(args);
}
