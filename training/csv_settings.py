"""Options for the format of CSV files, which training, scoring and `describe` share."""

from pydantic import Field

from training.data.csv_format import CsvFormat, Decimal, Delimiter, Encoding, Thousands
from training.settings import Settings


class CsvSettings(Settings):
    """Options of the commands that read CSV files."""

    csv_delimiter: Delimiter = Field(
        default="auto", description="Delimiter of a CSV file: a comma, a semicolon, | or tab. auto detects it."
    )
    csv_decimal: Decimal = Field(
        default="auto",
        description="Decimal separator of a CSV file. auto takes the comma if a number such as 1,5 needs it.",
    )
    csv_thousands: Thousands = Field(
        default="auto",
        description="Thousands separator of a CSV file. auto detects it from numbers with decimals, such as 1.234,5.",
    )
    csv_encoding: Encoding = Field(
        default="auto", description="Encoding of a CSV file, such as latin-1. auto is UTF-8, or UTF-16 with its mark."
    )

    @property
    def csv_format(self) -> CsvFormat:
        """The format of CSV files."""
        return CsvFormat(
            delimiter=self.csv_delimiter,
            decimal=self.csv_decimal,
            thousands=self.csv_thousands,
            encoding=self.csv_encoding,
        )
